"""The demo in words: on the terminal, as JSON, and in the folder's README.txt."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attestation.encoding.instants import instant
from attestation.result import Status
from gateway.client.export import BODIES_NAME, BUNDLE_NAME
from gateway.demo.folder import CASES_NAME, MARK, POLICY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.demo.audit import Audit
    from gateway.demo.story import Story

SCHEMA = "attested-gateway/demo/v1"
_WIDTH = 96
_OPEN_HARDWARE = (
    "Nothing here says anything about hardware: the quotes are SIMULATED, signed by keys this "
    "process made. On a TDX machine the same code runs with real quotes and ends in exit 0."
)
_OPEN_IMAGE = (
    "That this software is what it should be: policy.toml pins what the machine itself has shown. "
    "An auditor takes measurements that were published with the image. RTMR3 is left alone here."
)
_ROOT_LINE = "root.pem      the root of the SIMULATED platform; Intel's is built into the verifier"


def render(story: Story, folder: str, program: str) -> str:
    """The story as text for a terminal; `program` is what the verifier is called by."""
    passed = sum(check.status is Status.PASS for check in story.connected.checks)
    simulated = story.grounds.simulated
    quotes = "simulated TDX quotes" if simulated else "this machine's TDX quotes"
    root = "the root in root.pem" if simulated else "Intel's root"
    lines = [
        "1. A gateway started in front of an engine",
        f"   gateway {story.url}, model {story.model}, one fresh API key, {quotes}",
        *_says("proved", "nothing yet"),
        "",
        "2. A client accepted the gateway's evidence before sending anything",
        f"   {passed} checks passed, verdict {story.connected.verdict}",
        *_says(
            "proved",
            f"the quote is signed under {root}, shows the software and settings that "
            "policy.toml pins, and commits to the keyset; the TLS connection ends at a key of it",
        ),
        *_says("not", _OPEN_HARDWARE if simulated else _OPEN_IMAGE),
        "",
        "3. The unmodified OpenAI client asked twice",
        f"   plain      {_short(story.answers[0])}",
        f"   streaming  {_short(story.answers[1])}",
        *(f"   receipt    {call.receipt_id}  {call.path}" for call in story.calls),
        *_says(
            "proved",
            "each receipt is signed by the boot's key and commits to the exact bytes sent and "
            "read and to a fresh nonce; the client saw no end of an answer before that held",
        ),
        "",
        "4. The log was quoted over both receipts",
        *_anchoring(story),
        *_says(
            "proved",
            "each receipt has its place in the log up to the size that a quote of the same trust "
            "domain reports: from then on nobody can change it, or put another one in its place, "
            "not even who steals the gateway's keys",
        ),
        *_says(
            "not",
            "that you were shown every receipt: that takes all epochs of the boot and the whole "
            "log; and when it happened: clocks are the host's, and no witness signed the log",
        ),
        "",
        "5. An auditor verified the bundle in another process, offline",
        *_audited(story.audit),
        *_says(
            "proved",
            "the same again from files alone: who has the bundle, the policy and the root needs "
            "neither the gateway nor this machine",
        ),
        "",
        f"6. One byte was changed, in {len(story.tamperings)} places, and each change was refused",
    ]
    for one in story.tamperings:
        lines += [f"   {one.change}", *_audited(one.audit)]
    lines += [
        *_says(
            "proved",
            "a change of answer, receipt, inclusion proof or either quote does not go unnoticed",
        ),
        "",
        "Not proved by any of this",
        *(line for note in story.audit.not_proved for line in _bullet(note)),
        "",
        f"Everything is in {folder}; README.txt there has the commands to retype.",
        f"At any later time this verifies the bundle again (exit {story.audit.exit_code}):",
        "",
        f"  {again(story, folder, program)}",
    ]
    return "\n".join(lines) + "\n"


def again(story: Story, folder: str, program: str) -> str:
    """The command that verifies the bundle at any later time, from where the demo was started.

    Endorsements go out of date: it judges by the instant at which the demo's auditor did.
    """
    place = Path(folder)
    roots = (str(place / name) for name in story.grounds.roots)
    return shlex.join(
        [
            *(program, "verify", str(place / BUNDLE_NAME), "--policy", str(place / POLICY_NAME)),
            *(word for root in roots for word in ("--root", root)),
            *("--contents", str(place / BODIES_NAME), "--at", instant(story.audit.at)),
        ]
    )


def readme(story: Story) -> str:
    """README.txt of the folder."""
    due = story.grounds.expected.exit_code
    commands = [story.audit, *(one.audit for one in story.tamperings)]
    lines = [
        MARK,
        "",
        "bundle.json   evidence of one gateway boot; for each call a receipt with its openings,",
        "              and the quoted state of the log that anchors it",
        "bodies/       the exact requests and answers, and the nonces sent, by receipt id",
        "policy.toml   what the auditor accepts: the software and settings it names",
        *(_ROOT_LINE for _ in story.grounds.roots),
        "tampered/     copies in which one byte was changed",
        f"{CASES_NAME}  what the policy has to say to each of these",
        "",
        "Bodies and openings are confidential; here they are made up.",
        "",
        "To check again, in this folder (in a checkout the command is .venv/bin/attested):",
        "",
    ]
    for one in commands:
        lines += [*_wrapped_command(one.command), f"    exit {one.exit_code}: {one.verdict}", ""]
    lines += [
        f"  attested policy test {CASES_NAME}",
        "    exit 0: all of this again, each as expected",
        "",
        "The endorsements of the platform go out of date; after that the first command ends in 11,",
        f"and --at with a time at which you held these files gives {due} again: it was checked at",
        f"--at {instant(story.audit.at)}, and the case file names that time.",
        "",
        "What none of this proves:",
        *(line for note in story.audit.not_proved for line in _bullet(note)),
    ]
    return "\n".join(lines) + "\n"


def document(story: Story, folder: str, program: str) -> dict[str, Any]:
    """The story as JSON values."""
    return {
        "schema": SCHEMA,
        "folder": folder,
        "went_as_told": story.went_as_told,
        "connected": str(story.connected.verdict),
        "receipts": [call.receipt_id for call in story.calls],
        "unanchored": dict(story.unanchored),
        "audit": _audit_json(story.audit),
        "again": again(story, folder, program),
        "tampered": [{"change": one.change, **_audit_json(one.audit)} for one in story.tamperings],
        "not_proved": list(story.audit.not_proved),
    }


def _anchoring(story: Story) -> list[str]:
    lines = []
    for call in story.calls:
        if call.anchoring is None:
            lines.append(f"   ✗ {call.receipt_id}: {story.unanchored.get(call.receipt_id or '')}")
            continue
        statement = call.anchoring.epoch.statement
        lines.append(
            f"   receipt    {call.receipt_id}  epoch {statement.epoch}, log of "
            f"{statement.size} leaves"
        )
    return lines


def _audited(audit: Audit) -> list[str]:
    failing = [f"   ✗ {line}" for line in audit.failing]
    return [f"   exit {audit.exit_code} {audit.verdict}, {audit.passed} checks passed", *failing]


def _audit_json(audit: Audit) -> dict[str, Any]:
    return {
        "command": audit.command,
        "exit_code": audit.exit_code,
        "verdict": audit.verdict,
        "failing": list(audit.failing),
    }


def _says(label: str, text: str) -> list[str]:
    head = f"   {label:<7} "
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def _bullet(text: str) -> Iterable[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  - ", subsequent_indent="    ")


def _wrapped_command(command: str) -> list[str]:
    wrapped = textwrap.wrap(command, _WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    lines = [f"  {line} \\" if line is not wrapped[-1] else f"  {line}" for line in wrapped]
    return [lines[0], *(f"    {line}" for line in lines[1:])]


def _short(text: str) -> str:
    return textwrap.shorten(text, _WIDTH - 16, placeholder=" …")
