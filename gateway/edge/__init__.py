"""The data path: from the caller's socket to the engine's and back, with a receipt."""
