"""`attested` with other programs for its worker and its notary: for benchmarks only.

    python -m benchmarks.edge.launch --worker benchmarks.edge.bare -- serve --config gateway.toml

Has to run in the repository's folder, which is where the children then find `benchmarks`.
"""

from __future__ import annotations

import argparse
import sys
from typing import cast

from gateway.cli.main import main as attested
from gateway.processes import crew, supervisor


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", default=crew.MODULE)
    parser.add_argument("--notary", default=supervisor.NOTARY_MODULE)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    cast("dict[str, object]", vars(crew))["MODULE"] = arguments.worker
    cast("dict[str, object]", vars(supervisor))["NOTARY_MODULE"] = arguments.notary
    return attested(arguments.command)


if __name__ == "__main__":
    sys.exit(main())
