"""The gateway's notary under the sampler of `benchmarks.edge.profiled`."""

from __future__ import annotations

import sys

from benchmarks.edge.profiled import main

if __name__ == "__main__":
    sys.argv[1:1] = ["gateway.processes.notary", "notary"]
    main()
