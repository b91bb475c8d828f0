"""Loaded by the interpreter of a gateway under test: the loudest log, and failures on demand.

The gateway has no log level.  What its libraries would say is made as loud as it gets: every
logger's records go to stderr.  The failures are bugs that the product does not have, so they are
put in here; each one's text quotes what it must not say, and the gateway has to keep it in.
"""

# ruff: noqa: PLC0415 - most interpreters that load this file need none of the gateway

from __future__ import annotations

import logging
import os
import sys
from typing import Any

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
TOKEN = os.environ.get("CANARY_TOKEN", "")


def _serving() -> bool:
    """Whether this is a process of the gateway; `python -m` has not set its arguments yet."""
    command = [*sys.orig_argv, *sys.argv]
    modules = {"gateway.processes.notary", "gateway.processes.worker"}
    return bool(TOKEN) and ("serve" in command or not modules.isdisjoint(command))


def _break_admission() -> None:
    from gateway.edge.rules import Rule

    allows = Rule.allows

    def broken(self: Rule, value: object) -> bool:
        if os.environ.get("CANARY_LEAK"):
            logging.getLogger("leak").debug("a rule looked at %s", value)
        if value == f"{TOKEN} fault":
            raise LookupError(f"no rule for {value}")
        return allows(self, value)

    Rule.allows = broken  # type: ignore[method-assign]


def _break_exchange() -> None:
    from attestation.receipt.exchange import Exchange

    engine, relay = Exchange.engine, Exchange.relay

    def broken(self: Exchange, data: bytes) -> bytes:
        if b"fault-engine" in data:
            raise ValueError(f"cannot take {data!r}")
        return engine(self, data)

    def broken_relay(self: Exchange, data: bytes, send: Any) -> bool:
        if b"fault-engine" in data:
            raise ValueError(f"cannot take {data!r}")
        return relay(self, data, send)

    Exchange.engine = broken  # type: ignore[method-assign]
    Exchange.relay = broken_relay  # type: ignore[method-assign]


def _break_notary(kind: Any) -> None:
    from attestation.errors import UnavailableError
    from gateway.errors import NotaryUnavailable

    announce, seal, find, challenge = kind.announce, kind.seal, kind.find, kind.challenge

    def broken_announce(self: Any, announcement: Any) -> None:
        if announcement.lineage is not None and announcement.lineage.txn == "fault-announce":
            raise NotaryUnavailable(f"no room for {TOKEN}")
        announce(self, announcement)

    async def broken_seal(self: Any, outcome: Any) -> Any:
        if outcome.lineage.txn == "fault-seal":
            raise RuntimeError(f"{TOKEN}: {outcome!r}")
        return await seal(self, outcome)

    async def broken_find(self: Any, receipt_id: str, *args: Any, **kwargs: Any) -> Any:
        if "fault-find" in receipt_id:
            raise KeyError(f"{TOKEN} {receipt_id}")
        return await find(self, receipt_id, *args, **kwargs)

    async def broken_challenge(self: Any, nonce: bytes) -> Any:
        if nonce == b"\xff" * 32:
            raise UnavailableError(f"{TOKEN}", code="quote_failed", observed=TOKEN)
        if nonce == b"\xee" * 32:
            raise NotaryUnavailable(TOKEN)
        return await challenge(self, nonce)

    kind.announce = broken_announce
    kind.seal = broken_seal
    kind.find = broken_find
    kind.challenge = broken_challenge


if _serving():
    _break_admission()
    _break_exchange()
    from gateway.notary.local import LocalNotary
    from gateway.notary.wire.client import RemoteNotary

    _break_notary(LocalNotary)
    _break_notary(RemoteNotary)
