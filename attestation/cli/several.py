"""Many files in one run: found in folders, verified one at a time, told as they end."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.cli.files import STDIN, is_folder, list_folder, print_json, print_text
from attestation.cli.predicted import predicted_lines
from attestation.cli.progress import Bytes
from attestation.encoding.printable import printable
from attestation.errors import UsageError
from attestation.report import documents, render_text
from attestation.report.document import RESULTS_SCHEMA, document
from attestation.result import worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.result import AttestationResult, Verdict

ALONE = (
    "each file was verified by itself: whether receipts or checkpoints of one contradict those of "
    "another, and whether a log is complete over several, was not compared; `attested bundle` "
    "merges files into one, in which it is"
)


def expand(names: Sequence[str]) -> list[str]:
    """Return the names of files, with those of a folder in its place, in order.

    Raises `UsageError` for a folder without files, and for a file that is not there: better
    before the first verdict than in the middle of a long run.
    """
    found: list[str] = []
    for name in names:
        if name != STDIN and is_folder(name):
            inside = [str(path) for path in _evidence_in(name)]
            if not inside:
                raise UsageError(
                    f"{name!a} has no files in it",
                    code="file",
                    expected="a folder with bundles or receipts",
                )
            found += inside
        else:
            found.append(name)
    for name in found:
        if name != STDIN:
            _require_readable(name)
    return found


def _evidence_in(name: str) -> list[Path]:
    """Return the files of a folder; of one that `attested call` left, its bundle, which has all.

    Names that start with a dot, and locks (`*.lock`), are no evidence.
    """
    try:
        found = [path for path in list_folder(name) if path.is_file()]
    except OSError as error:
        # It may be evidence: passed over, it would not be missed.
        raise UsageError(
            f"{name!a} holds what cannot be looked at",
            code="file",
            expected="files, and links to files that this user may reach",
            observed=error.strerror or "an I/O error",
            hint="take it out of the folder, or name the files",
        ) from error
    bundle = [path for path in found if path.name == "bundle.json"]
    if bundle and any(path.name == "openings.json" for path in found):
        return bundle
    return [path for path in found if path.name[0] != "." and path.suffix != ".lock"]


def _require_readable(name: str) -> None:
    """Look without opening: a pipe can be opened once."""
    try:
        observed = "" if os.access(name, os.R_OK) else "no such file, or no right to read it"
    except ValueError:
        observed = "not a file name"
    if observed:
        raise UsageError(
            f"cannot read {name!a}",
            code="file",
            expected='a file that this user may read, or "-" for standard input',
            observed=observed,
        )


class Text:
    """Tells every result when it is there; at last the worst, on which the exit code rests."""

    def __init__(self) -> None:
        self._count = 0
        self.verdicts: set[Verdict] = set()

    def add(self, name: str, result: AttestationResult) -> None:
        """Print one result."""
        self._count += 1
        self.verdicts.add(result.verdict)
        print_text(render_text(result, name=name))
        lines = predicted_lines(result)
        if lines:
            print_text("\n".join(map(printable, lines)) + "\n")

    def close(self) -> None:
        """Let the last line be the exit code's, not that of the file that happened to be last."""
        if self._count > 1:
            verdict = worst(self.verdicts)
            print_text(f"\nnote: {ALONE}\n")
            print_text(f"the worst of {self._count} files: {verdict} (exit {verdict.exit_code})\n")


class Json:
    """Writes one JSON document, of several results without holding more than one of them."""

    def __init__(self, count: int) -> None:
        self._several = count > 1
        self.verdicts: set[Verdict] = set()

    def add(self, name: str, result: AttestationResult) -> None:
        """Write one result: the whole document, or the next item of its list."""
        if self._several:
            sys.stdout.write(", " if self.verdicts else '{"results": [')
            sys.stdout.write(_dumped(document(result, name=name)))
        else:
            print_json(documents([(name, result)]))
        self.verdicts.add(result.verdict)

    def close(self) -> None:
        """Write what follows the list."""
        if self._several:
            verdict = worst(self.verdicts)
            rest = {
                "exit_code": verdict.exit_code,
                "not_compared": ALONE,
                "schema": RESULTS_SCHEMA,
                "verdict": str(verdict),
            }
            sys.stdout.write("], " + _dumped(rest).removeprefix("{") + "\n")


def progress_for(names: Sequence[str], *, wanted: bool) -> Bytes | None:
    """Return what says on stderr how far a run is, None for nothing.

    On a terminal where no report is being written, or wherever it was asked for.
    """
    if not wanted and (sys.stdout.isatty() or not sys.stderr.isatty()):
        return None
    return Bytes("verified", sum(Path(name).stat().st_size for name in names if name != STDIN))


def _dumped(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True)
