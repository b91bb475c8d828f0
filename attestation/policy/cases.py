"""Cases for a policy: evidence, an instant, and the verdict that the policy has to come to.

A case file is TOML with closed keys, like the policies it is about (docs/spec/policy-cases.md).
Nothing here reads evidence or verifies it: `parse_cases` says what is expected, `differences`
what came out otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.policy.parse import load_toml, read_check_id
from attestation.policy.table import Table, read_instant, read_name, read_table, read_text, refuse
from attestation.result import Status, Verdict

if TYPE_CHECKING:
    from attestation.result import AttestationResult

SCHEMA = "policy-cases/1"
_PATH = re.compile(r"[\x21-\x2e\x30-\x5b\x5d-\x7e][\x20-\x5b\x5d-\x7e]{0,255}")
_NONCE = r"[\x21-\x7e]{1,256}"
_RECEIPT = r"[0-9a-f]{32}"
_OPENING = re.compile(r"^the policy\b")
_BUNDLE_ONLY = ("endorsements", "receipt")
_RECEIPT_ONLY = ("request", "response", "nonce", "model_lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one piece of evidence has to come to.

    Paths are relative to the case file's folder and stay below it.  Exactly one of `bundle` and
    `quote` is given.  `roots` empty means Intel's; `at` is the instant to judge by (Unix
    seconds).  `high_water` is what was seen of endorsements and signed policies before; trying a
    case never raises it.  `receipt` is the id of the one that the four after it are about.
    `checks` are ids with the status that every check of that id must have; `failing`, if it is
    not empty, are the ids of all checks that must fail.
    """

    name: str
    at: int
    verdict: Verdict
    bundle: str | None = None
    quote: str | None = None
    collateral: str | None = None
    endorsements: tuple[str, ...] = ()
    high_water: str | None = None
    roots: tuple[str, ...] = ()
    policy: str | None = None
    receipt: str | None = None
    request: str | None = None
    response: str | None = None
    nonce: str | None = None
    model_lock: str | None = None
    checks: tuple[tuple[str, Status], ...] = ()
    failing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """The cases of one file; `policy` is the path of the policy for those that name none."""

    policy: str | None
    cases: tuple[Case, ...]


def parse_cases(data: bytes) -> Cases:
    """Return the cases in the TOML file `data`.

    Guarantees: every key is known and of its type, no list is empty, no name is used twice, no
    path is absolute or leads upwards.  Raises `MalformedError` with the key's path
    and the name of the case, if it has one.
    """
    try:
        return _cases(Table(load_toml(data)))
    except MalformedError as error:
        # The readers are those of policies, and so are the first words of their messages.
        raise MalformedError(
            _OPENING.sub("the case file", error.message),
            code=error.code.replace("policy", "cases", 1),
            expected=error.expected,
            observed=error.observed,
            hint=error.hint,
        ) from None


def differences(case: Case, result: AttestationResult) -> tuple[str, ...]:
    """Return in words what came out otherwise than the case expects; nothing if all is as it says.

    1. the verdict
    2. every check that the case names was made, with that status wherever it was made
    3. the ids that failed, where the case lists them, are those and no others
    """
    found = []
    if result.verdict is not case.verdict:
        found.append(f"verdict: expected {case.verdict}, got {result.verdict}")
    for id_, status in case.checks:
        seen = sorted({str(check.status) for check in result.checks if check.id == id_})
        if seen != [str(status)]:
            found.append(f"{id_}: expected {status}, got {' and '.join(seen) or 'no such check'}")
    failed = {check.id for check in result.checks if check.status is Status.FAIL}
    if case.failing and failed != case.failing:
        found.append(f"failing: expected {_listed(case.failing)}, got {_listed(failed)}")
    return tuple(found)


def _listed(ids: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(ids)) or "none"


def _cases(top: Table) -> Cases:
    top.text("schema", pattern=SCHEMA)
    policy = _optional_path(top, "policy")
    cases = top.items("cases", _case)
    top.close()
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        raise refuse("cases", "a different name for every case")
    return Cases(policy=policy, cases=cases)


def _case(value: object, path: str) -> Case:
    try:
        return _read_case(value, path)
    except MalformedError as error:
        name = value.get("name") if isinstance(value, dict) else None
        if isinstance(name, str):
            error.message += f" (the case {name[:64]!a})"
        raise


def _read_case(value: object, path: str) -> Case:
    table = read_table(value, path)
    case = Case(
        name=read_name(table.raw("name"), table.name_of("name")),
        at=read_instant(table.raw("at"), table.name_of("at")),
        verdict=_verdict(table),
        bundle=_optional_path(table, "bundle"),
        quote=_optional_path(table, "quote"),
        collateral=_optional_path(table, "collateral"),
        endorsements=_optional_paths(table, "endorsements"),
        high_water=_optional_path(table, "high_water"),
        roots=_optional_paths(table, "roots"),
        policy=_optional_path(table, "policy"),
        receipt=_optional_text(table, "receipt", _RECEIPT),
        request=_optional_path(table, "request"),
        response=_optional_path(table, "response"),
        nonce=_optional_text(table, "nonce", _NONCE),
        model_lock=_optional_path(table, "model_lock"),
        checks=_checks(table),
        failing=frozenset(table.items("failing", read_check_id) if table.has("failing") else ()),
    )
    table.close()
    _require_evidence(case, path)
    return case


def _require_evidence(case: Case, path: str) -> None:
    if (case.bundle is None) == (case.quote is None):
        raise refuse(path, "either bundle or quote")
    if case.bundle is not None and case.collateral is not None:
        raise refuse(f"{path}.collateral", "a quote beside it; a bundle takes endorsements")
    for keys, needed in ((_BUNDLE_ONLY, "bundle"), (_RECEIPT_ONLY, "receipt")):
        for key in keys:
            if getattr(case, key) and getattr(case, needed) is None:
                raise refuse(f"{path}.{key}", f"{needed} beside it")


def _verdict(table: Table) -> Verdict:
    told = table.text("verdict")
    if told not in set(Verdict):
        raise refuse(table.name_of("verdict"), "one of " + ", ".join(Verdict))
    return Verdict(told)


def _checks(table: Table) -> tuple[tuple[str, Status], ...]:
    if not table.has("checks"):
        return ()
    path = table.name_of("checks")
    told = table.raw("checks")
    if not isinstance(told, dict) or not told:
        raise refuse(path, 'a table of check ids, like { QUOTE-GENUINE = "pass" }', told)
    words = "|".join(Status)
    return tuple(
        (read_check_id(id_, path), Status(read_text(status, f"{path}.{id_}", words)))
        for id_, status in told.items()
    )


def _optional_text(table: Table, key: str, pattern: str) -> str | None:
    return table.text(key, pattern=pattern) if table.has(key) else None


def _optional_path(table: Table, key: str) -> str | None:
    return _path(table.raw(key), table.name_of(key)) if table.has(key) else None


def _optional_paths(table: Table, key: str) -> tuple[str, ...]:
    return table.items(key, _path) if table.has(key) else ()


def _path(value: object, path: str) -> str:
    """Return a relative path that names nothing above its folder."""
    text = read_text(value, path, r".{1,256}")
    if not _PATH.fullmatch(text) or ".." in text.split("/"):
        raise refuse(path, "a file below the case file's folder, like evidence/bundle.json")
    return text
