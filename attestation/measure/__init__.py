"""What a machine will measure, computed from its parts before it ever runs.

Bytes in, ordered events and register values out: firmware, kernel image, disk and runtime events
become the values of MRTD and RTMR0..3 of a TDX guest, or of the PCRs of a TPM for the same image
booted without TDX.  Every event says how its digest was come by; what cannot be computed is never
made up.  Formats and rules: docs/spec/measurements.md.
"""
