"""Intel TDX evidence: quotes, their certificates, collateral, event logs.

`quote` and `eventlog` parse, `signatures` and `dcap` verify, `anchor` says under whose root.
Nothing here decides whether a genuine quote is acceptable: that is policy.
"""
