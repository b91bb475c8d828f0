"""A worker of the gateway with nobody to issue receipts: what receipts add is the difference.

It is the product's own worker process, with one part replaced: its notary announces nothing and
signs nothing.  The real notary runs beside it and idles.  This exists for benchmarks only;
`benchmarks.edge.launch` starts it, and nothing of the product can.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

from attestation.encoding.digest import Digest
from attestation.receipt.commitments import Openings
from gateway.notary.interface import SealedReceipt
from gateway.notary.wire.client import RemoteNotary
from gateway.processes import worker

if TYPE_CHECKING:
    from attestation.receipt.outcome import Outcome
    from gateway.notary.interface import Announcement

_NOTHING = Digest.of(b"")


class NullNotary(RemoteNotary):
    """Knows the boot of the notary that it is connected to, and issues nothing."""

    def announce(self, announcement: Announcement) -> None:
        """Let the request go on."""

    async def handed_over(self) -> None:
        """Nothing has to be handed over."""

    async def seal(self, outcome: Outcome) -> SealedReceipt:
        """Return a receipt with nothing in it."""
        return SealedReceipt(
            jti=outcome.jti, token="", openings=Openings(keys={}), index=0, digest=_NOTHING
        )


def main() -> int:
    """Run the process."""
    module = cast("dict[str, object]", vars(worker))
    if "RemoteNotary" not in module:
        raise RuntimeError("the worker connects to its notary in another way now; see bare.py")
    module["RemoteNotary"] = NullNotary
    return worker.main()


if __name__ == "__main__":
    sys.exit(main())
