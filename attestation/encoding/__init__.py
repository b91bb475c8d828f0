"""The only parsers of text formats: strict JSON, JCS, base64url, JWS compact, digests.

Everything here takes bytes or text of unknown origin and either returns a value that has
exactly one encoding, or raises `MalformedError`.
"""
