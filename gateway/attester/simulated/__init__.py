"""A TDX platform in software: real formats, real signatures, keys that belong to nobody.

Its quotes are structurally genuine and verify under its own root only, so the same code path
verifies them as verifies Intel's; every certificate says SIMULATED - NOT INTEL, the keys live
in this process, and no verifier ever takes a root from the evidence.  It can be steered into
every fault that a real platform or its endorsements can show.
"""
