"""The inference receipt: what it claims, how it is made, carried, signed and taken apart."""
