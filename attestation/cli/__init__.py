"""Commands on files and standard input: one module each, listed in `main`."""
