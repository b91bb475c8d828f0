"""What `attested doctor` looks at, one module a subject; nothing here changes anything."""
