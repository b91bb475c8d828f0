"""What evidence shows of its gateway, each value with why it can be believed, as a policy's text.

Nothing here verifies: `attestation.report.pin` does, before and after.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.policy import SCHEMA
from attestation.policy.toml import toml_comment, toml_pair
from attestation.statement.model_lock import MODEL_LOCK_EVENT
from attestation.tdx.runtime import RUNTIME_REGISTER
from attestation.verifier.extensions import runtime_events, stated_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attestation.bundle import BootEvidence
    from attestation.tdx.body import TdReport
    from attestation.tdx.dcap import GenuineQuote

UP_TO_DATE = "UpToDate"
_QUOTE = "signed by the quote"
_HOST = f"{_QUOTE}; the host chose it when it started the domain"
_OPERATOR = "the operator's word: a setting, in the statement that the quote covers"
_PROVED = "measured into RTMR3; its digest proves the content"
_DIGEST_ONLY = "measured into RTMR3; digest only: what the name stands for is the log's word"
_STATED = "listed by the statement, as nothing could extend RTMR3: its software's word"
_REGISTERS = (
    ("mrtd", f"{_QUOTE}: the first memory of the domain, its firmware"),
    ("rtmr0", f"{_QUOTE}: configuration and ACPI tables, which the host supplies"),
    ("rtmr1", f"{_QUOTE}: boot loader and kernel"),
    ("rtmr2", f"{_QUOTE}: kernel command line, initial file system and what they measure"),
)
_OWNERS = ("mrconfigid", "mrowner", "mrownerconfig")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the one who pins accepts beyond the strict defaults, in so many words.

    `statuses` and `advisories` count before `until` (Unix seconds).  `label` None pins no
    machine; otherwise it is what the machine is called.
    """

    statuses: tuple[str, ...] = ()
    advisories: tuple[str, ...] = ()
    until: int = 0
    unbound_keys: bool = False
    max_age_days: int = 30
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedValue:
    """A key of the policy with its value, and why the value can be believed."""

    key: str
    value: object
    why: str

    @property
    def lines(self) -> tuple[str, str]:
        """The two lines that it is in a policy: the reason as a comment, and the key."""
        return toml_comment(self.why), toml_pair(self.key, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBoot:
    """A boot with its quote, which was found genuine."""

    evidence: BootEvidence
    genuine: GenuineQuote

    @property
    def body(self) -> TdReport:
        """The signed report of the trust domain."""
        return self.genuine.quote.body

    @property
    def binds_keys(self) -> bool:
        """Whether an event log shows that keys were measured into RTMR3."""
        if self.evidence.event_log is None:
            return False
        return any(event.key for event in runtime_events(self.evidence.event_log.parse()))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredBefore:
    """An event of RTMR3 before the keys; `proved`: its digest proves its content."""

    name: str
    digest: bytes
    proved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What would be pinned: values by table of the policy, in the order they are written."""

    tables: tuple[tuple[str, tuple[PinnedValue, ...]], ...]

    def policy_text(self, head: Sequence[str], version: str) -> str:
        """Return the text of the policy; `head` becomes comments at its top."""
        comments = (toml_comment(line).rstrip() for line in head)
        lines = [*comments, toml_pair("schema", SCHEMA)]
        lines.append(toml_pair("version", version))
        for table, values in self.tables:
            lines += ["", table, *(line for value in values for line in value.lines)]
        return "\n".join([*lines, ""])


def draft(boots: Sequence[ShownBoot], numbers: Iterable[int], choices: Choices) -> Draft:
    """Return what `boots` (at least one) show, for a policy that accepts just that.

    `numbers` are the TCB evaluation numbers of every set of endorsements in use.
    """
    tables = [
        ("[tdx]", tuple(_tdx(boots, min(numbers), choices))),
        ("[endorsements]", (_plain("max_age_days", choices.max_age_days, "your bound"),)),
    ]
    if choices.label is not None:
        tables.append(("[platform]", tuple(_machines(boots, choices.label))))
    seen: list[tuple[PinnedValue, ...]] = []
    for one in boots:
        values = tuple(_tuple(one))
        if values not in seen:
            seen.append(values)
            tables.append(("[[reference_values]]", (_name(one), *values)))
    return Draft(tables=tuple(tables))


def _plain(key: str, value: object, why: str) -> PinnedValue:
    return PinnedValue(key=key, value=value, why=why)


def _name(one: ShownBoot) -> PinnedValue:
    seed = one.evidence.statement.bootseed.hex()[:16]
    return _plain("name", f"as boot {seed} showed it", "a name for people")


def _tdx(boots: Sequence[ShownBoot], number: int, choices: Choices) -> Iterable[PinnedValue]:
    bodies = [one.body for one in boots]
    until = _instant(choices.until)
    accepted = [{"status": status, "until": until} for status in choices.statuses]
    why = "the strict default" if not accepted else "the strict default, and what you accepted"
    yield _plain("tcb_status", [UP_TO_DATE, *accepted], why)
    if choices.advisories:
        listed = [{"id": id_, "until": until} for id_ in choices.advisories]
        yield _plain("advisories", listed, "you accepted them; the endorsements name them as open")
    yield _plain(
        "min_tcb_evaluation_number",
        number,
        "signed by the TCB signing key, under the same root as the quote",
    )
    date = min(one.genuine.tcb_level_date for one in boots)
    yield _plain("min_tcb_date", _instant(date), "the platform's TCB level, by the endorsements")
    words = sorted({body.td_attributes for body in bodies})
    yield _plain("attributes", f"{words[0]:#x}", f"{_QUOTE}: no debug, nothing unusual")
    features = sorted({body.xfam for body in bodies})
    yield _plain("xfam", [f"{word:#x}" for word in features], _QUOTE)
    modules = sorted({body.mr_seam.hex() for body in bodies})
    why = f"{_QUOTE}; the endorsements know the module"
    yield _plain("mrseam", modules, why)
    bound = "allow" if choices.unbound_keys else "refuse"
    why = "you accepted it" if choices.unbound_keys else "the strict default"
    yield _plain("unbound_keys", bound, why)
    yield _plain("max_key_events", 1, "the strict default")


def _machines(boots: Sequence[ShownBoot], label: str) -> Iterable[PinnedValue]:
    certificates = [one.genuine.pck for one in boots]
    why = "in the platform's certificate; the label is your word"
    ppids = dict.fromkeys(pck.ppid.hex() for pck in certificates)
    yield _plain("ppid", [{"value": value, "label": label} for value in ppids], why)
    piids = dict.fromkeys(pck.piid.hex() for pck in certificates if pck.piid is not None)
    # One list for all machines: it would refuse those whose certificate has no such member.
    if all(pck.piid is not None for pck in certificates):
        yield _plain("piid", [{"value": value, "label": label} for value in piids], why)


def _tuple(one: ShownBoot) -> Iterable[PinnedValue]:
    body, statement = one.body, one.evidence.statement
    registers = (body.mrtd, *body.rtmrs[:3])
    for (key, why), value in zip(_REGISTERS, registers, strict=True):
        yield _plain(key, value.hex(), why)
    events = _measured(one)
    yield from _rtmr3(one, events)
    owners = (body.mr_config_id, body.mr_owner, body.mr_owner_config)
    for key, value in zip(_OWNERS, owners, strict=True):
        yield _plain(key, value.hex(), _HOST)
    yield _plain(
        "config_digest",
        statement.config_digest.hex,
        "said by the software of this tuple, in the statement that the quote covers; which "
        "settings they are is not in the evidence",
    )
    yield _plain("origin", statement.log_origin.rpartition("/")[0], _OPERATOR)
    if statement.image is not None:
        yield _plain("image", statement.image, _OPERATOR)
    if statement.model_digest is not None:
        measured = any(event.name == MODEL_LOCK_EVENT for event in events)
        said = "said by the software of this tuple, in the statement that the quote covers"
        why = f"{said}, and measured as {MODEL_LOCK_EVENT}" if measured else said
        yield _plain("model", statement.model_digest.hex, why)


def _rtmr3(one: ShownBoot, events: Sequence[MeasuredBefore]) -> Iterable[PinnedValue]:
    value = one.body.rtmrs[RUNTIME_REGISTER]
    if one.evidence.event_log is None and any(value):
        yield _plain("rtmr3", value.hex(), f"{_QUOTE}; no event log says what is in it")
        return
    told = "the event log replays to it" if any(value) else "all zero: nothing was measured into it"
    yield _plain("rtmr3", "replay", f"{_QUOTE}; {told}")
    stated = stated_events(one.evidence.statement)
    if stated:
        listed = [{"name": event.name, "digest": event.digest.hex()} for event in stated]
        yield _plain("events", listed, _STATED)
    elif events:
        listed = [{"name": event.name, "digest": event.digest.hex()} for event in events]
        why = _PROVED if all(event.proved for event in events) else _DIGEST_ONLY
        yield _plain("events", listed, why)


def _measured(one: ShownBoot) -> list[MeasuredBefore]:
    """Return what was measured into RTMR3 before the keys, in order."""
    if one.evidence.event_log is None:
        return []
    log = one.evidence.event_log.parse()
    return [
        MeasuredBefore(name=told.name, digest=told.digest, proved=event.content is not None)
        for told, event in zip(runtime_events(log), log.of(RUNTIME_REGISTER), strict=True)
        if told.key is None
    ]


def _instant(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
