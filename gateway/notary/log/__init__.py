"""The log of a boot on disk, its tree, its static files, and what earlier boots left."""
