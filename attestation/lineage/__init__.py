"""Which call belongs to which task, and which answers it was built on."""
