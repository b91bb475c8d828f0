"""A worker of the gateway that issues no receipts: what receipts add is the difference.

It is the product's own worker process with two parts replaced: its notary announces nothing and
signs nothing, and its exchanges hash nothing, cut no stream into events and read no facts.  Keys,
grants, slots, the strict reading of requests and the relay itself are the product's.  The real
notary runs beside it and idles.  This exists for benchmarks only: `benchmarks.edge.launch` starts
it, and nothing of the product can.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from attestation.encoding.digest import Digest
from attestation.receipt.claims import End
from attestation.receipt.commitments import Openings
from attestation.receipt.dialect import dialect_of
from attestation.receipt.exchange import Exchange, ForwardPlan, State
from attestation.receipt.outcome import LineageContext, Outcome
from benchmarks.edge.dialogue import PATH
from gateway.edge import announcing
from gateway.notary.interface import SealedReceipt
from gateway.notary.wire.client import RemoteNotary
from gateway.processes import worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.notary.interface import Announcement

_NOTHING = Digest.of(b"")


class NullNotary(RemoteNotary):
    """Knows the boot of the notary that it is connected to, and issues nothing."""

    def announce(self, announcement: Announcement) -> None:
        """Let the request go on."""

    def hand_over(self) -> bool:
        """Nothing has to be handed over."""
        return True

    async def handed_over(self) -> None:
        """Nothing has to be handed over."""

    async def seal(self, outcome: Outcome) -> SealedReceipt:
        """Return a receipt with nothing in it."""
        return SealedReceipt(
            jti=outcome.jti, token="", openings=Openings(keys={}), index=0, digest=_NOTHING
        )


class HollowExchange(Exchange):
    """Passes on what it gets; of its outcome only who, how and what was decided is true."""

    def receive(self, data: bytes) -> None:
        """Hash nothing."""

    def plan(self, plan: ForwardPlan) -> None:  # noqa: ARG002 - the signature is the product's
        """Compare nothing."""
        self.state = State.PLANNED

    def engine(self, data: bytes) -> bytes:
        """Return a piece of a stream as it is; keep a piece of a plain answer."""
        if self.state is State.STREAM:
            return data
        self.engine_bytes += len(data)
        self._pieces.append(data)
        return b""

    def taken(self, data: bytes) -> None:
        """Count nothing."""

    def relay(self, data: bytes, send: Callable[[bytes], bool]) -> bool:
        """Hand a piece of a stream to `send` as it is."""
        return send(data)

    @property
    def broken(self) -> bool:
        """Never: nobody looks."""
        return False

    def engine_end(self, *, clean: bool) -> None:
        """Note the end."""
        streaming = self.state is State.STREAM
        self.state = State.STREAM_DONE if streaming else State.PLAIN_DONE
        self._clean = clean

    def finish(self, end: End = End.COMPLETE, *, error_frame: bytes | None = None) -> Outcome:
        """Return an outcome that commits to nothing."""
        if self.state is State.ANSWERED or not self._clean:
            return super().finish(end, error_frame=error_frame)
        if self.state is State.PLAIN_DONE:
            self.body = b"".join(self._pieces)
        self.state = State.FINISHED
        return replace(_template(self), jti=self.jti, end=end)


_TEMPLATES: dict[str, Outcome] = {}


def _template(one: Exchange) -> Outcome:
    """Return an outcome of a whole answer of nothing, made when the first one is asked for."""
    if not _TEMPLATES:
        other = Exchange(
            jti=one.jti,
            method="POST",
            path=PATH,
            sub=_NOTHING,
            grant_digest=_NOTHING,
            dialect=dialect_of(PATH),
            inline=False,
            nonce=None,
            lineage=LineageContext(txn="bench", span="00f067aa0ba902b7"),
        )
        other.decide()
        _TEMPLATES[""] = other.finish(End.CLIENT_ABORT)
    return _TEMPLATES[""]


def put(module: ModuleType, name: str, value: Any) -> None:  # noqa: ANN401 - any class
    """Replace a name that a module of the product uses; refuse if it does not use it any more."""
    if not hasattr(module, name):
        raise RuntimeError(f"{module.__name__} has no {name} now; benchmarks.edge.bare replaces it")
    setattr(module, name, value)


def main() -> int:
    """Run the process."""
    put(worker, "RemoteNotary", NullNotary)
    put(announcing, "Exchange", HollowExchange)
    return worker.main()


if __name__ == "__main__":
    sys.exit(main())
