"""The notary's socket protocol: frames, messages, and a server and a client for them."""
