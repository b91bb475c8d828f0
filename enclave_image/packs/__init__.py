"""Build model and engine packs: EROFS on dm-verity, the same bytes from the same files.

`python -m enclave_image.packs --help`; the format is docs/spec/packs.md.
"""
