"""What a release publishes about an image: packs, measurements, signatures, an append-only log.

Everything here parses, predicts and verifies; what builds images lies in `enclave_image/`.
Formats: docs/spec/packs.md and docs/spec/releases.md.
"""
