"""Pure, offline verification of inference receipts: bytes and policy in, verdict out."""
