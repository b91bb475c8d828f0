"""Publish an image: its SBOM, the signed statement about it, and the log of all releases.

`python -m enclave_image.publish --help`; the formats are docs/spec/releases.md.
"""
