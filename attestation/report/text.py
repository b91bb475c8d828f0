"""Results for people: a line a check, what failed in full, and what stays open."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING

from attestation.checks import CHECKS
from attestation.encoding.instants import instant
from attestation.encoding.printable import printable
from attestation.report.document import differing
from attestation.result import AttestationResult, Check, Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MARKS = {Status.PASS: "✓", Status.FAIL: "✗", Status.SKIP: "-", Status.INFO: "·"}
_MEANINGS = {
    Verdict.ACCEPTED: "every required check passed",
    Verdict.REJECTED: "the evidence, a signature or a binding is wrong",
    Verdict.NOT_ACCEPTED: "the policy does not accept the evidence",
    Verdict.INCOMPLETE: "nothing is wrong, but a required check could not be made",
    Verdict.MALFORMED: "the file is not what its format demands",
    Verdict.UNAVAILABLE: "something that was needed could not be reached",
    Verdict.SIMULATED: "all checks pass, on simulated evidence that proves nothing about hardware",
}
_GENUINE = "the evidence is genuine, and the policy does not accept it"
_OPEN = "the policy does not accept the evidence, which was not shown to be genuine"
_NOT_INTELS = [
    "SIMULATED: judged under a root given with --root, not Intel's; it says nothing about hardware"
]
_KINDS = ("epoch", "receipt")
_LINES_PER_KIND = 4
_WIDTH = 100
_ID_WIDTH = max(map(len, CHECKS)) + 1


def render_text(result: AttestationResult, *, name: str) -> str:
    """Return the report on `name`, ending in a newline.

    A line for each check, grouped by subject; a failure or a required skip with what was
    expected, seen, and what to do.  Of more than four receipts or four epochs, those with nothing
    wrong are summed up.  Ends with what is not proved, and the verdict with its exit code.
    """
    lines = [f"{name}"]
    for subject, checks in _grouped(result.checks):
        lines += ["", f"  {subject}"]
        for alike in _alike(checks):
            lines += _check_lines(alike[0]) if len(alike) == 1 else _skipped_lines(alike)
    lines += ["", "What this does not prove"]
    for note in result.not_proved:
        lines += textwrap.wrap(note, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
    lines += [
        "",
        f"verified as of {instant(result.at)}; policy {_policy(result)}",
        *([] if result.now is None else [_now_line(result, result.now)]),
        f"{result.verdict} (exit {result.exit_code}): {_meaning(result)}",
        *(_NOT_INTELS if _is_marked(result) else []),
    ]
    lines += _decisive_lines(result)
    return "\n".join(map(printable, lines)) + "\n"


def _meaning(result: AttestationResult) -> str:
    """Say what the verdict means; "genuine" only of quotes that all were, under Intel's root."""
    if result.verdict is not Verdict.NOT_ACCEPTED or "simulated" in result.trust_domains:
        return _MEANINGS[result.verdict]
    shown = [check.status for check in result.checks if check.id == "QUOTE-GENUINE"]
    return _GENUINE if set(shown) == {Status.PASS} else _OPEN


def _is_marked(result: AttestationResult) -> bool:
    """Whether the verdict itself does not say that the evidence is simulated."""
    return "simulated" in result.trust_domains and result.verdict is not Verdict.SIMULATED


def _policy(result: AttestationResult) -> str:
    if result.policy_digest is None:
        return "none was given"
    version = "" if result.policy_version is None else f' (version "{result.policy_version}")'
    names = ", ".join(vkey.partition("+")[0] for vkey in result.policy_signers)
    signed = f"signed by {names}" if names else "its signature not checked"
    return f"{result.policy_digest.hex}{version}, {signed}"


def _now_line(stated: AttestationResult, now: AttestationResult) -> str:
    """Say in one line what the same evidence is worth at present."""
    decisive = [check for check in now.checks if check.verdict is now.verdict]
    if not differing(stated, now):
        why = "nothing differs"
    elif now.verdict in (Verdict.ACCEPTED, Verdict.SIMULATED) or not decisive:
        why = _meaning(now)
    else:
        first = decisive[0]
        why = f"{first.id} of {first.subject}: {first.reason}"
    return f"now: {now.verdict} ({why}), as of {instant(now.at)}"


def _grouped(checks: Sequence[Check]) -> Iterable[tuple[str, list[Check]]]:
    subjects: dict[str, list[Check]] = {}
    for check in checks:
        subjects.setdefault(check.subject, []).append(check)
    summed = {kind: _quiet(kind, subjects) for kind in _KINDS}
    for subject, own in subjects.items():
        if not any(subject in quiet for quiet in summed.values()):
            yield subject, own
    for kind, quiet in summed.items():
        if quiet:
            alike = [check for check in checks if check.subject in quiet]
            yield from _summed_up(alike, f"{len(quiet)} {kind}s with nothing wrong")


def _quiet(kind: str, subjects: dict[str, list[Check]]) -> set[str]:
    """Return the subjects of a kind with nothing wrong, if there are many of that kind."""
    own = [subject for subject in subjects if subject.startswith(f"{kind} ")]
    quiet = {s for s in own if all(c.verdict is Verdict.ACCEPTED for c in subjects[s])}
    return quiet if len(own) > _LINES_PER_KIND else set()


def _summed_up(checks: list[Check], title: str) -> Iterable[tuple[str, list[Check]]]:
    count = len({check.subject for check in checks})
    first: dict[tuple[str, Status], Check] = {}
    for check in checks:
        first.setdefault((check.id, check.status), check)
    totals = Counter((check.id, check.status) for check in checks)
    yield (
        title,
        [
            Check(
                id=check.id,
                subject="",
                status=check.status,
                required=False,
                reason=f"{totals[check.id, check.status]} of {count}",
            )
            for check in first.values()
        ],
    )


def _alike(checks: list[Check]) -> Iterable[list[Check]]:
    """Put skips together that have one and the same reason; everything else stands alone."""
    groups: dict[object, list[Check]] = {}
    for number, check in enumerate(checks):
        skipped = check.status is Status.SKIP
        key = (check.reason, check.hint, check.required) if skipped else number
        groups.setdefault(key, []).append(check)
    return groups.values()


def _skipped_lines(checks: list[Check]) -> list[str]:
    text = f"{', '.join(check.id for check in checks)}: {checks[0].reason}"
    mark = f"    {_MARKS[Status.SKIP]} "
    lines = textwrap.wrap(
        text, _WIDTH, initial_indent=mark, subsequent_indent=" " * 6, break_on_hyphens=False
    )
    return lines + (_indented("hint", checks[0].hint) if checks[0].required else [])


def _check_lines(check: Check) -> list[str]:
    head = f"    {_MARKS[check.status]} {check.id:<{_ID_WIDTH}}"
    lines = [f"{head}{check.title}: {check.reason}"]
    if check.verdict is Verdict.ACCEPTED:
        return lines
    lines += _indented("expected", check.expected)
    lines += _indented("seen", check.observed)
    lines += _indented("hint", check.hint)
    return lines


def _indented(label: str, text: str) -> list[str]:
    if not text:
        return []
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"        {label:<9}",
        subsequent_indent=" " * 17,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _decisive_lines(result: AttestationResult) -> list[str]:
    """Name the checks that the verdict follows from, so that nobody has to search for them."""
    verdict = result.verdict
    if verdict in (Verdict.ACCEPTED, Verdict.SIMULATED):
        return []
    decisive: dict[str, list[str]] = {}
    for check in result.checks:
        if check.verdict is verdict:
            decisive.setdefault(check.id, []).append(check.subject)
    names = [
        f"{id_} ({subjects[0] if len(subjects) == 1 else f'{len(subjects)} times'})"
        for id_, subjects in decisive.items()
    ]
    return ["because of " + ", ".join(names)] if names else []
