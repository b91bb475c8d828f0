"""Topic `tdx`: quotes with collateral and time, parsed fields, event logs to replay.

`*/manifest.json` lists `entries`.  A quote entry gives a case `#i` for each of its `cases`, a
case `#parse` for its recorded fields, and a case `#replay` where it names an event log.  An
event log entry gives `#replay` where a register value, or a quote to compare with, is known.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attestation.conformance.case import Case
from attestation.conformance.files import require_list, require_object, require_text, unknown_shape
from attestation.conformance.tdx_fields import observed, recorded
from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.collateral import parse_dcap_collateral
from attestation.tdx.dcap import classify, find_refusals, verify_quote
from attestation.tdx.events import replay
from attestation.tdx.logfile import looks_like_log, parse_log_file
from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import Entry, VectorDirectory
    from attestation.encoding.strict_json import JsonValue

_REGISTERS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")
# Files that stand beside the quotes; only their SHA-256 is checked.
_COMPANIONS = frozenset({"collateral", "evidence-bundle", "other"})
# A recorded refusal text that belongs to no class of the topic agrees with any refusal.
_UNCLASSIFIED = "other"


def cases(directory: VectorDirectory, _resources: ExitStack) -> Iterator[Case]:
    """Yield the cases of every entry of every manifest."""
    for manifest in directory.entry_manifests():
        for entry in manifest.entries:
            kind = require_text(entry.members, "kind", entry.file)
            if kind == "quote":
                yield from _quote_cases(directory, manifest.folder, entry)
            elif kind == "eventlog":
                yield from _log_cases(directory, manifest.folder, entry)
            elif kind not in _COMPANIONS:
                raise unknown_shape(entry.file)


def _quote_cases(directory: VectorDirectory, folder: str, entry: Entry) -> Iterator[Case]:
    data = directory.read(entry.file)
    verdicts = require_list(entry.members.get("cases", []), f"cases of {entry.file}")
    for number, members in enumerate(verdicts):
        yield _verdict_case(directory, f"{entry.file}#{number}", data, members)
    fields = recorded(entry.members)
    yield Case(
        name=f"{entry.file}#parse",
        expected=fields,
        run=partial(_parse, data, frozenset(fields)),
        agrees=_known_values_agree,
    )
    if "eventlog" in entry.members:
        log = require_object(entry.members["eventlog"], f"eventlog of {entry.file}")
        name = directory.beside(folder, require_text(log, "file", entry.file))
        yield _replay_case(entry.file, directory.read(name), log, data)


def _verdict_case(
    directory: VectorDirectory, name: str, data: bytes, members: dict[str, Any]
) -> Case:
    at = members.get("now_secs")
    if type(at) is not int:
        raise _unusable(name, "now_secs as an integer")
    collateral = directory.read(require_text(members, "collateral", name))
    return Case(
        name=name,
        expected=_expected_verdict(members, name),
        run=partial(_verify, data, collateral, at),
        agrees=_verdicts_agree,
    )


def _expected_verdict(members: dict[str, Any], name: str) -> dict[str, JsonValue]:
    expect = require_text(members, "expect", name)
    if expect == "ok":
        known = {key: members.get(key) for key in ("status", "advisory_ids")}
        return {"verdict": "ok", **{k: v for k, v in known.items() if v is not None}}
    if expect == "error":
        return {"verdict": "error", "class": classify(require_text(members, "error", name))}
    raise _unusable(name, '"ok" or "error" as expect')


def _verify(data: bytes, collateral_json: bytes, at: int) -> dict[str, JsonValue]:
    try:
        quote = parse_quote(data)
        collateral = parse_dcap_collateral(collateral_json)
    except MalformedError:
        return {"verdict": "error", "classes": ["malformed"]}
    try:
        genuine = verify_quote(quote, collateral, at, INTEL_ANCHOR)
    except EvidenceError:
        classes = find_refusals(quote, collateral, at, INTEL_ANCHOR)
        return {"verdict": "error", "classes": sorted(classes)}
    advisories = sorted(genuine.advisory_ids)
    return {"verdict": "ok", "status": genuine.tcb_status, "advisory_ids": advisories}


def _verdicts_agree(expected: JsonValue, got: JsonValue) -> bool:
    wanted, seen = require_object(expected, "expected"), require_object(got, "got")
    if wanted["verdict"] != seen["verdict"]:
        return False
    if wanted["verdict"] == "error":
        return wanted["class"] in (_UNCLASSIFIED, *seen["classes"])
    advisories: list[str] = wanted.get("advisory_ids", seen["advisory_ids"])
    same_status: bool = wanted.get("status", seen["status"]) == seen["status"]
    return same_status and sorted(advisories) == seen["advisory_ids"]


def _parse(data: bytes, names: frozenset[str]) -> JsonValue:
    try:
        quote = parse_quote(data)
    except MalformedError:
        return "refused"
    return {name: value for name, value in observed(quote, len(data)).items() if name in names}


def _log_cases(directory: VectorDirectory, folder: str, entry: Entry) -> Iterator[Case]:
    data = directory.read(entry.file)
    _require_log_shape(entry.file, data)
    if "replays_to" in entry.members:
        quote = require_text(entry.members, "matches_quote", entry.file)
        other = directory.read(directory.beside(folder, quote))
        yield _replay_case(entry.file, data, entry.members, other)
    elif "replayed_rtmrs" in entry.members:
        yield _registers_case(entry.file, data, entry.members)


def _replay_case(file: str, data: bytes, members: dict[str, Any], quote: bytes) -> Case:
    """Compare the replayed registers with those in a quote; null means not known."""
    _require_log_shape(file, data)
    name = f"{file}#replay"
    expected = _known(require_object(members.get("replays_to"), name))
    return Case(
        name=name,
        expected=expected | _known({"events": members.get("events")}),
        run=partial(_replay_against, data, quote),
        agrees=_known_values_agree,
    )


def _registers_case(file: str, data: bytes, members: dict[str, Any]) -> Case:
    name = f"{file}#replay"
    expected = _known(require_object(members["replayed_rtmrs"], name))
    return Case(
        name=name,
        expected=expected | _known({"events": members.get("events")}),
        run=partial(_replay, data),
        agrees=_known_values_agree,
    )


def _replay(data: bytes) -> JsonValue:
    try:
        log = parse_log_file(data)
    except MalformedError:
        return "refused"
    registers = dict(zip(_REGISTERS, (value.hex() for value in replay(log)), strict=True))
    return {**registers, "events": len(log.events) + log.unmeasured}


def _replay_against(data: bytes, quote_data: bytes) -> JsonValue:
    try:
        log, quote = parse_log_file(data), parse_quote(quote_data)
    except MalformedError:
        return "refused"
    pairs = zip(_REGISTERS, replay(log), quote.body.rtmrs, strict=True)
    matches = {name: replayed == quoted for name, replayed, quoted in pairs}
    return {**matches, "events": len(log.events) + log.unmeasured}


def _known_values_agree(expected: JsonValue, got: JsonValue) -> bool:
    """Say whether `got` has every value that `expected` records, null standing for unknown."""
    if not isinstance(expected, dict):
        return expected is None or bool(expected == got)
    return isinstance(got, dict) and all(
        name in got and _known_values_agree(value, got[name]) for name, value in expected.items()
    )


def _known(members: dict[str, Any]) -> dict[str, JsonValue]:
    return {name: value for name, value in members.items() if value is not None}


def _require_log_shape(file: str, data: bytes) -> None:
    if not looks_like_log(data):
        raise unknown_shape(file)


def _unusable(name: str, expected: str) -> MalformedError:
    return MalformedError(f"the case {name[:80]!a} is not usable", code="case", expected=expected)
