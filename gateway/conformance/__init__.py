"""Conformance topics that need a running gateway: real sockets, a scripted engine behind it."""
