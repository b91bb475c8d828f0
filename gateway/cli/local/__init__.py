"""A whole gateway inside one process: for the demo, the examples and the conformance runner.

Real sockets, the real edge, the real notary, simulated quotes.  Nothing here is for production.
"""
