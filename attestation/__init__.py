"""Pure, offline verification of inference receipts: bytes, policy and an instant in, verdict out."""
