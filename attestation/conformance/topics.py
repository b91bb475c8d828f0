"""The topics that need nothing but the verifier, by name."""

from __future__ import annotations

TOPICS = {
    "c2sp-note": "attestation.conformance.c2sp_note",
    "jcs": "attestation.conformance.jcs",
    "json": "attestation.conformance.strict_json",
    "merkle": "attestation.conformance.merkle",
    "signatures": "attestation.conformance.signatures",
    "tdx": "attestation.conformance.tdx",
    "tlog-proof": "attestation.conformance.tlog_proof",
    "tlog-tiles": "attestation.conformance.tlog_tiles",
}
