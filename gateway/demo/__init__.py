"""`attested demo`: the whole story on one machine: no TEE, no GPU, no network, no account."""
