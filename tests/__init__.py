"""A package, so that helpers are imported as `tests.<name>` and nothing can shadow them."""
