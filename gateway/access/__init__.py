"""Who may call: API keys kept as hashes, and the grant each of them carries."""
