"""Merkle trees and what carries them: RFC 6962 proofs, C2SP notes, checkpoints, tlog-proofs."""
