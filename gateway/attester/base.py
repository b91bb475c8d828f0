"""The protocol every quote source speaks, and how a URI chooses one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

from attestation.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from attestation.bundle import EventLogRecord
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral

REPORT_DATA_BYTES = 64
REGISTER_BYTES = 48


class QuoteProvider(Protocol):
    """A source of quotes for the trust domain this process runs in.

    Every method may block (a stock guest takes about a second a quote) and is called from a
    thread, by one caller at a time.  A source that cannot answer raises `UnavailableError`.
    """

    @property
    def name(self) -> str:
        """What receipts call this source: "simulated", "configfs-tsm", …"""

    @property
    def can_extend_rtmr3(self) -> bool:
        """Whether `extend_rtmr3` and `read_rtmr3` work here."""

    def quote(self, report_data: bytes) -> bytes:
        """Return a fresh quote over exactly 64 bytes, as the source wrote it."""

    def collateral(self) -> Collateral | None:
        """Return current endorsements for this platform, or None if the source has none."""

    def anchor(self) -> Anchor | None:
        """Return the root these quotes hang under, or None for Intel's."""

    def extend_rtmr3(self, digest: bytes, *, name: str, content: bytes) -> None:
        """Extend RTMR3 by an event; it cannot be taken back in the life of this domain.

        `digest` are the event's 48 bytes, SHA-384 of `content`.  A source that computes digests
        by a rule of its own (dstack) takes `name` and `content` instead; `event_log` shows it.
        """

    def read_rtmr3(self) -> bytes | None:
        """Return the current 48 bytes of RTMR3, or None if they cannot be read."""

    def event_log(self) -> EventLogRecord | None:
        """Return the log this source keeps of its extensions, None if the notary keeps it."""


def open_provider(uri: str, *, clock: Callable[[], float] = time.time) -> QuoteProvider:
    """Return the provider that `uri` names: SCHEME:[ADDRESS][?OPTION=VALUE&…].

    Raises `UsageError` for an unknown scheme or option, `UnavailableError` for a source that
    this version, or this machine, cannot use.
    """
    require_known(uri)
    scheme, _, rest = uri.partition(":")
    address, _, query = rest.partition("?")
    return _SCHEMES[scheme](address, _options(query), clock)


def require_known(uri: str) -> None:
    """Refuse a URI whose scheme names no provider (`UsageError`); nothing is opened."""
    scheme, colon, _ = uri.partition(":")
    if not colon or scheme not in _SCHEMES:
        raise UsageError(
            "no quote provider has this name",
            code="provider",
            expected="one of " + ", ".join(f"{name}:" for name in sorted(_SCHEMES)),
            observed=uri[:80],
            hint="evidence.provider names it with its colon, for example simulated:",
        )


def require_report_data(report_data: bytes) -> None:
    """Refuse anything but 64 bytes (`UsageError`)."""
    _require_length(report_data, REPORT_DATA_BYTES, "report data")


def require_register_digest(digest: bytes) -> None:
    """Refuse anything but 48 bytes (`UsageError`)."""
    _require_length(digest, REGISTER_BYTES, "a register digest")


def _require_length(data: bytes, length: int, what: str) -> None:
    if len(data) != length:
        raise UsageError(
            f"{what} has the wrong length",
            code="length",
            expected=f"{length} bytes",
            observed=f"{len(data)} bytes",
        )


def _options(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) != len(pairs):
        raise UsageError("a quote provider's URI names an option twice", code="provider")
    return options


def _open_simulated(
    address: str, options: Mapping[str, str], clock: Callable[[], float]
) -> QuoteProvider:
    # Loaded only when asked for: a gateway on real hardware never holds the simulator.
    from gateway.attester.simulated.provider import open_simulated  # noqa: PLC0415

    return open_simulated(address, options, clock)


def _open_dstack(
    address: str, options: Mapping[str, str], clock: Callable[[], float]
) -> QuoteProvider:
    from gateway.attester.dstack import open_dstack  # noqa: PLC0415 - imports this module

    return open_dstack(address, options, clock)


def _open_configfs_tsm(
    address: str, options: Mapping[str, str], clock: Callable[[], float]
) -> QuoteProvider:
    from gateway.attester.configfs_tsm import open_configfs_tsm  # noqa: PLC0415 - imports this one

    return open_configfs_tsm(address, options, clock)


def _open_vsock_qgs(
    address: str, options: Mapping[str, str], clock: Callable[[], float]
) -> QuoteProvider:
    from gateway.attester.vsock_qgs import open_vsock_qgs  # noqa: PLC0415 - imports this one

    return open_vsock_qgs(address, options, clock)


class _Opener(Protocol):
    def __call__(
        self, address: str, options: Mapping[str, str], clock: Callable[[], float], /
    ) -> QuoteProvider: ...


_SCHEMES: dict[str, _Opener] = {
    "simulated": _open_simulated,
    "configfs-tsm": _open_configfs_tsm,
    "vsock-qgs": _open_vsock_qgs,
    "dstack": _open_dstack,
}
