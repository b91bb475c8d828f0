"""The notary: keys, sequence numbers, signatures, the append-only log and quotes of one boot."""
