"""The `dstack:` quote provider: quotes and RTMR3 through the guest agent of a dstack image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.tdx.quote import Quote, parse_quote
from gateway.attester.base import (
    REPORT_DATA_BYTES,
    require_register_digest,
    require_report_data,
)
from gateway.attester.dstack_agent import Agent, AgentRefusedError
from gateway.attester.dstack_log import RUNTIME_REGISTER, read_agent_log, require_replays

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from attestation.bundle import EventLogRecord

SOCKET = "/var/run/dstack.sock"
_OPTIONS = ("rtmr3", "timeout")
_DEFAULT_TIMEOUT = "30"
_MAX_TIMEOUT = 300.0
_DECIMAL = re.compile(r"\d{1,3}(\.\d{1,3})?", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
# Quotes that are made to read the registers; they never leave this process.
_NOTHING = bytes(REPORT_DATA_BYTES)
_RTMR3 = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """One answer to GetQuote: a quote, and the log as it stood then, not yet looked into."""

    raw: bytes
    quote: Quote
    log: str


class DstackProvider:
    """The trust domain as dstack's guest agent shows it.

    The agent keeps the log of RTMR3 and makes the digests of its events, so a bundle carries
    the agent's log.  A log is given out only if it replays to the quote that came with it.
    """

    name = "dstack"

    def __init__(self, agent: Agent, *, can_extend_rtmr3: bool = True) -> None:
        self.can_extend_rtmr3 = can_extend_rtmr3
        self._agent = agent
        self._latest: _Told | None = None

    def quote(self, report_data: bytes) -> bytes:
        """Return a quote that shows these 64 bytes; the log beside it is kept for `event_log`.

        A quote is given out whatever its registers are, so that a notary sees that they have
        changed.  Raises `UnavailableError`.
        """
        require_report_data(report_data)
        self._latest = None
        self._latest = self._ask(report_data)
        return self._latest.raw

    def collateral(self) -> None:
        """None: the agent has no endorsements to give."""

    def anchor(self) -> None:
        """None: the quotes hang under Intel's root."""

    def event_log(self) -> EventLogRecord:
        """Return the agent's log as it stood at the latest quote, every digest stated.

        Raises `UnavailableError` if it does not replay to that quote's RTMR0 to 3.
        """
        if self._latest is None:
            self._latest = self._ask(_NOTHING)
        log = read_agent_log(self._latest.log)
        require_replays(log, self._latest.quote.body.rtmrs)
        return log

    def extend_rtmr3(self, digest: bytes, *, name: str, content: bytes) -> None:
        """Have the agent measure `content` under `name`; the agent makes the digest, by its rule.

        Returns only if the log afterwards ends with this event and replays to a quote's
        registers.  Raises `UnavailableError`.
        """
        require_register_digest(digest)
        if not self.can_extend_rtmr3:
            raise UnavailableError(
                "this dstack provider was told not to extend RTMR3",
                code="rtmr3",
                hint="take rtmr3=off out of evidence.provider",
            )
        self._latest = None
        try:
            self._agent.tell("EmitEvent", {"event": name, "payload": content.hex()})
        except AgentRefusedError as error:
            raise UnavailableError(
                "the dstack agent does not extend RTMR3",
                code="rtmr3",
                expected="dstack 0.5, whose agent has EmitEvent",
                observed=error.observed,
                hint="before 0.5.0 and from 0.6.0 on applications cannot: dstack:?rtmr3=off, and "
                'verifiers then need unbound_keys = "allow" in their policy',
            ) from error
        last = self.event_log().parse().of(RUNTIME_REGISTER)[-1:]
        if [(event.name, event.content) for event in last] != [(name, content)]:
            raise UnavailableError(
                "the dstack agent's log does not end with the event that was just measured",
                code="rtmr3",
                expected=name,
                observed=", ".join(event.name[:64] for event in last) or "no event in RTMR3",
                hint="something else extends RTMR3 at the same time: nothing may, restart the TD",
            )

    def read_rtmr3(self) -> bytes:
        """Return RTMR3 as a fresh quote shows it."""
        return self._ask(_NOTHING).quote.body.rtmrs[_RTMR3]

    def agent_version(self) -> str | None:
        """Return the agent's version, or None if it has none to tell (before 0.5.5)."""
        try:
            told = self._agent.ask("Version", {}).get("version")
        except AgentRefusedError:
            return None
        return ascii(told[:40])[1:-1] if isinstance(told, str) else None

    def _ask(self, report_data: bytes) -> _Told:
        """One GetQuote.

        1. the agent says that it quoted our report data
        2. the quote can be read and shows our report data
        """
        answer = self._agent.ask("GetQuote", {"report_data": report_data.hex()})
        raw = _bytes_of(answer, "quote")
        echoed = _bytes_of(answer, "report_data")
        try:
            quote = parse_quote(raw)
        except MalformedError as error:
            raise UnavailableError(
                "the dstack agent's quote cannot be read",
                code="dstack_answer",
                expected=error.expected or "a TDX quote",
                observed=error.observed or error.message,
                hint="an agent outside of Intel TDX gives none",
            ) from error
        shown = quote.body.report_data
        if shown != report_data or echoed not in (b"", report_data):
            raise UnavailableError(
                "the dstack agent quoted other report data than it was given",
                code="dstack_answer",
                expected=report_data.hex()[:16],
                observed=(shown if shown != report_data else echoed).hex()[:16],
                hint="the agent confuses callers, or this is an answer kept from before",
            )
        return _Told(raw=raw, quote=quote, log=_text_of(answer, "event_log"))


def open_dstack(
    address: str, options: Mapping[str, str], _clock: Callable[[], float]
) -> DstackProvider:
    """Open `dstack:[SOCKET][?timeout=SECONDS&rtmr3=on|off]`; the socket is /var/run/dstack.sock.

    `rtmr3=off` is for agents that extend nothing for applications (dstack from 0.6.0 on).
    Raises `UsageError`, or `UnavailableError` if there is no such socket.
    """
    unknown = sorted(options.keys() - set(_OPTIONS))
    rtmr3, timeout = options.get("rtmr3", "on"), options.get("timeout", _DEFAULT_TIMEOUT)
    path = Path(address or SOCKET)
    if unknown or rtmr3 not in ("on", "off") or not path.is_absolute() or not _seconds(timeout):
        raise UsageError(
            "the dstack: provider was given something it does not know",
            code="provider",
            expected="dstack:[/SOCKET][?rtmr3=on|off&timeout=SECONDS], "
            f"at most {_MAX_TIMEOUT:g} seconds",
            observed=" ".join((*unknown[:1], address[:80], rtmr3[:8], timeout[:8])),
        )
    agent = Agent(path, timeout=_seconds(timeout))
    agent.require_socket()
    return DstackProvider(agent, can_extend_rtmr3=rtmr3 == "on")


def _seconds(text: str) -> float:
    """Return a usable time, or 0."""
    value = float(text) if _DECIMAL.fullmatch(text) else 0.0
    return value if value <= _MAX_TIMEOUT else 0.0


def _bytes_of(answer: Mapping[str, Any], member: str) -> bytes:
    text = _text_of(answer, member, absent="" if member == "report_data" else None)
    if not _HEX.fullmatch(text.lower()):
        raise _unlike(member, "hexadecimal digits")
    return bytes.fromhex(text)


def _text_of(answer: Mapping[str, Any], member: str, *, absent: str | None = None) -> str:
    text = answer.get(member, absent)
    if not isinstance(text, str):
        raise _unlike(member, "a text")
    return text


def _unlike(member: str, expected: str) -> UnavailableError:
    return UnavailableError(
        f"the dstack agent's answer to GetQuote has no usable {member}",
        code="dstack_answer",
        expected=expected,
        hint="dstack before 0.4 speaks another protocol (tappd.sock); update the guest image",
    )
