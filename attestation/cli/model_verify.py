"""`attested model verify`: is a folder still the model that a lock describes?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attestation.cli.files import load_parsed, print_json, print_text
from attestation.cli.model_folder import Entry, Survey, hash_files, open_folder, survey, writable
from attestation.cli.progress import Bytes, readable
from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.encoding.printable import printable
from attestation.result import Verdict, worst
from attestation.statement.model_lock import ModelLock, parse_model_lock

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from attestation.errors import AttestationError

HELP = "check a folder against a model lock"
SCHEMA = "attested-gateway/model-verification/v1"

_EPILOG = """\
Names every file that is missing, extra or changed, and everything that could not be read.  Which
files count, and where links may lead: see `attested model lock --help`.

exit codes: 0 the folder is the model; 10 files are missing, extra or changed; 13 the lock cannot
be parsed; 14 a file cannot be read, or changed while it was (10 if there are both); 2 usage, or
DIR or LOCK is not there.

examples:
  attested model verify ./tiny model.lock
  attested model verify ./tiny model.lock --json
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one path: `kind` is missing, extra, changed or unreadable."""

    path: str
    kind: str
    expected: str = ""
    observed: str = ""

    @property
    def verdict(self) -> Verdict:
        """REJECTED for another content, UNAVAILABLE for one that could not be read."""
        return Verdict.UNAVAILABLE if self.kind == "unreadable" else Verdict.REJECTED

    def to_json(self) -> dict[str, str]:
        """Return the JSON form."""
        return {
            "path": self.path,
            "problem": self.kind,
            "expected": self.expected,
            "observed": self.observed,
        }


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("folder", metavar="DIR", help="folder of the model's files")
    add("lock", metavar="LOCK", help='model lock; "-" is stdin')
    add("--links-within", metavar="ROOT", help="folder that links in DIR may lead into (DIR)")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Compare, print what differs, return the exit code."""
    lock = load_parsed(args.lock, parse_model_lock)
    folder = open_folder(args.folder, args.links_within)
    found = survey(folder)
    problems = sorted(_problems(lock, found), key=lambda one: one.path)
    verdict = worst(one.verdict for one in problems)
    if args.json:
        print_json(_document(lock, found, problems, verdict))
    else:
        print_text(_text(lock, found, problems))
    return verdict.exit_code


def _problems(lock: ModelLock, found: Survey) -> Iterator[Problem]:
    """Yield what is wrong.

    1. what cannot be a model file is named, listed or not
    2. a file that only one side knows is missing or extra
    3. a file of another size is changed, and need not be read
    4. every other file has the digest of the lock
    """
    for path, error in found.refused.items():
        yield _unreadable(path, error)
    entries = {entry.path: entry for entry in found.entries}
    listed = {file.path: file for file in lock.files}
    for path in listed.keys() - entries.keys() - found.refused.keys():
        yield Problem(path=path, kind="missing", expected=f"{listed[path].size} bytes")
    for path in entries.keys() - listed.keys():
        yield Problem(path=path, kind="extra", observed=f"{entries[path].size} bytes")
    to_read: list[Entry] = []
    for path in sorted(listed.keys() & entries.keys()):
        if listed[path].size == entries[path].size:
            to_read.append(entries[path])
            continue
        yield Problem(
            path=path,
            kind="changed",
            expected=f"{listed[path].size} bytes",
            observed=f"{entries[path].size} bytes",
        )
    progress = Bytes("hashed", sum(entry.size for entry in to_read))
    for entry, digest in hash_files(to_read, progress.add):
        expected = listed[entry.path].sha256
        if not isinstance(digest, Digest):
            yield _unreadable(entry.path, digest)
        elif digest != expected:
            yield Problem(
                path=entry.path, kind="changed", expected=expected.hex, observed=digest.hex
            )
    progress.close()


def _unreadable(path: str, error: AttestationError) -> Problem:
    return Problem(
        path=writable(path),
        kind="unreadable",
        expected=error.expected,
        observed=error.message,
    )


def _document(
    lock: ModelLock, found: Survey, problems: list[Problem], verdict: Verdict
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "lock": lock.facts(),
        "problems": [one.to_json() for one in problems],
        "passed_over": found.to_json(),
        "exit_code": verdict.exit_code,
    }


def _text(lock: ModelLock, found: Survey, problems: list[Problem]) -> str:
    facts = lock.facts()
    lines = [f"{facts['digest']}  {lock.model}"]
    lines += [f"  {name:<9}{facts[name]}" for name in ("source", "engine") if facts[name]]
    for one in problems:
        lines.append(f"  {one.kind:<11}{printable(one.path)}")
        lines += [
            f"    {name} {printable(text)}"
            for name, text in (("expected", one.expected), ("observed", one.observed))
            if text
        ]
    if found.passed_over:
        lines.append(f"  {found.hidden}")
    size = f"{counted(len(lock.files), 'file')}, {readable(lock.size)}"
    if problems:
        lines.append(f"not that model: {counted(len(problems), 'problem')} ({size} in the lock)")
    else:
        but = ", but for the hidden names" if found.passed_over else ""
        lines.append(f"the folder is that model{but}: {size}")
    return "\n".join(lines) + "\n"
