"""What was found about a log, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attestation.cli.log_continuity import Connection
from attestation.cli.log_key import ARGUMENT, BESIDE, BUNDLE, LogKey
from attestation.encoding import base64std
from attestation.encoding.counts import counted
from attestation.encoding.printable import printable
from attestation.errors import UsageError
from attestation.merkle.note import vkey_for
from attestation.result import PRECEDENCE, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.cli.log_folder import Records
    from attestation.log import LogReport, SignedCheckpoint

SCHEMA = "attested-gateway/log-report/v1"
INCOMPLETE = Verdict.INCOMPLETE.exit_code
_WORST_FIRST = (UsageError.exit_code, *(verdict.exit_code for verdict in PRECEDENCE))
_NOT_CHECKED = "NOT checked against a quote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A log that held: with which key, what was read, and what it had shown before."""

    name: str
    key: LogKey
    report: LogReport
    before: SignedCheckpoint | None = None
    connection: Connection | None = None

    @property
    def exit_code(self) -> int:
        """What the pipeline said about the key's quote, 0 if it was not asked.

        12 if nothing worse and a monitor does not know where the log comes from.
        """
        connected = self.connection is None or self.connection.accepted
        result = self.key.result
        return worst([0 if connected else INCOMPLETE, 0 if result is None else result.exit_code])


def worst(codes: Sequence[int]) -> int:
    """Return the exit code of several findings (docs/verifying.md, "The verdict")."""
    return min(codes, key=_WORST_FIRST.index)


def documents(
    looked: Sequence[Looked],
    records: Sequence[Records],
    missing: Sequence[str],
    exit_code: int,
) -> dict[str, Any]:
    """Return everything that was found, as plain JSON values (docs/verifying.md)."""
    return {
        "schema": SCHEMA,
        "exit_code": exit_code,
        "logs": [_document(one) for one in looked],
        "missing": list(missing),
        "records": [
            {"boot": one.boot, "status": one.status, "reason": one.reason, "leaves": one.leaves}
            for one in records
        ],
    }


def render_records(records: Records, held: Sequence[Looked]) -> str:
    """Return what was found in a boot's records as lines for a terminal.

    `held` are the static logs that were read: one that shows less than its records is told.
    """
    leaves = "" if records.leaves is None else f", {records.leaves} entries"
    reason = f": {records.reason}" if records.reason else ""
    lines = [f"records of {records.boot}: {records.status}{leaves}{reason}"]
    for looked in held:
        checkpoint = looked.report.signed.checkpoint
        lacking = (records.leaves or 0) - checkpoint.size
        if checkpoint.origin.endswith(f"/{records.boot}") and lacking > 0:
            lines.append(
                f"  the static log lacks the last {lacking} of them, as after a crash or while the "
                "boot runs; `attested log export` makes it afresh from the records"
            )
    return "\n".join(map(printable, lines)) + "\n"


def render(looked: Looked) -> str:
    """Return what was found about one log as lines for a terminal."""
    checkpoint = looked.report.signed.checkpoint
    lines = [f"log {checkpoint.origin} ({looked.name})"]
    rows = [
        ("key", _key(looked.key)),
        ("checkpoint", f"size {checkpoint.size}, root {base64std.encode(checkpoint.root)}"),
        ("entries", _entries(looked.report)),
        ("tiles", "the entries hash to the tiles, and the tiles to the signed root"),
    ]
    rows += [("history", text) for text in _history(looked)]
    lines += [f"  {label:<12}{text}" for label, text in rows]
    return "\n".join(map(printable, lines)) + "\n"


def _key(key: LogKey) -> str:
    if key.source == ARGUMENT:
        return f"as given, {_NOT_CHECKED}"
    where = "of the boot in the bundle" if key.source == BUNDLE else "of the boot beside the log"
    if key.result is None:
        return f"{where}, {_NOT_CHECKED}: --policy does that"
    return f"{where}, whose evidence is {key.result.verdict}"


def _entries(report: LogReport) -> str:
    counts = ", ".join(
        f"{count} {leaf.name.lower()}{'' if count == 1 else 's'}"
        for leaf, count in report.counts.items()
    )
    read = sum(report.counts.values())
    start = f" from index {report.read_from} on" if report.read_from else ""
    return f"{read} read{start}: {counts}"


def _history(looked: Looked) -> list[str]:
    told: list[str] = []
    if looked.before is not None:
        told.append(f"continues the size {looked.before.checkpoint.size} that was seen before")
    if looked.connection is not None and not looked.connection.accepted:
        told.append(f"NOT shown to continue any log seen here before: {looked.connection.reason}")
        told.append("was the data folder emptied? --accept-new-log takes this log as a new one")
    elif looked.connection is not None and looked.connection.reason:
        told.append(looked.connection.reason)
    report = looked.report
    if report.consistent:
        told.append(f"continues every checkpoint of the bundle: {len(report.consistent)}")
    if report.included:
        told.append(_included(looked))
    if report.beyond:
        told.append(f"receipts of the bundle not yet in this checkpoint: {len(report.beyond)}")
    return told


def _included(looked: Looked) -> str:
    """The boot's statement is the one entry that every bundle holds."""
    if looked.key.source == BESIDE:
        return "entry 0 is the statement of the boot beside the log"
    receipts = counted(looked.report.included - 1, "receipt")
    return f"of the bundle in their places: the boot's statement, {receipts}"


def _document(looked: Looked) -> dict[str, Any]:
    report, key, connection = looked.report, looked.key, looked.connection
    checkpoint = report.signed.checkpoint
    return {
        "log": looked.name,
        "origin": checkpoint.origin,
        "vkey": vkey_for(key.vkey.name, key.vkey.public),
        "key_from": key.source,
        "key_verdict": None if key.result is None else str(key.result.verdict),
        "size": checkpoint.size,
        "root": base64std.encode(checkpoint.root),
        "read_from": report.read_from,
        "entries": {leaf.name.lower(): count for leaf, count in report.counts.items()},
        "seen_before": None if looked.before is None else looked.before.checkpoint.size,
        "continuity": None if connection is None else str(connection.continuity),
        "continuity_reason": None if connection is None else connection.reason,
        "bundle": {
            "checkpoints": list(report.consistent),
            "included": report.included,
            "beyond": list(report.beyond),
        },
    }
