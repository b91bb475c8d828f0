"""`attested release verify`: who signed a release, and are these its artefacts?"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attestation.cli.files import (
    STDIN,
    load_parsed,
    print_json,
    print_text,
    require_file,
    require_one_stdin,
    save_bytes,
)
from attestation.cli.policy_source import load_signers
from attestation.cli.release_folder import load_log
from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.encoding.printable import printable
from attestation.errors import UsageError
from attestation.measure.document import encode_measurements
from attestation.measure.prediction import Derivation
from attestation.release.dsse import Envelope, parse_envelope
from attestation.release.history import entry_name, require_in_log
from attestation.release.statement import Release, require_subject, verify_release

if TYPE_CHECKING:
    import argparse

    from attestation.cli.release_folder import CheckedLog
    from attestation.merkle.note import Vkey

SIGNER = (
    "a release key (C2SP vkey, or its file), from elsewhere than the release; may be repeated: one "
    "of them is enough"
)
"""What --signer asks for, for the help of options."""
_UNLOGGED = (
    "that it stands in the log of releases: another one of this version, with the same signature, "
    "would look the same; give --log"
)

HELP = "check a signed release, and artefacts against it"

_EPILOG = """\
The release is a DSSE envelope.  With --log this very file, byte for byte, has to be an entry of a
log that passes all of `attested release log`; --before is for that log.  Without --log nobody but
the signer needs to know of this release, and the output says so.

--measurements writes the prediction for one machine, for `attested verify --measurements`, and what
is not shown goes to stderr.  `attested policy import` pins it only if no register is without a
value; else predict again from the compared artefacts, with what your host presents
(`attested measure tdx --acpi ... --boot-variable ...`, or `--observed LOG`).

exit codes: 0 signed by a listed key, every artefact given is that of the release, and with --log it
stands there; 10 it is not so; 13 the release, a key or the log is malformed; 2 usage

examples:
  attested release verify release.dsse.json --signer release.vkey --log measurements/ \\
      --before kept-checkpoint --artefact gateway.efi --artefact model.raw=/srv/packs/m.raw
  attested release verify release.dsse.json --signer release.vkey --log measurements/ \\
      --measurements tdx-64G -o measurements.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("file", metavar="RELEASE", help='signed release (DSSE); "-" is stdin')
    add("--signer", metavar="V", action="append", required=True, help=SIGNER)
    add("--log", metavar="DIR", help="the log of releases, of which this has to be an entry")
    add("--before", metavar="FILE", help="with --log: checkpoint of it that you kept")
    add("--artefact", metavar="[NAME=]FILE", action="append", default=[], help="file to compare")
    add("--measurements", metavar="MACHINE", help="write that prediction, and nothing else")
    add("-o", "--output", metavar="FILE", help="with --measurements: where to (stdout)")
    add("--force", action="store_true", help="with -o: replace a file that exists")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Verify, find in the log, compare, print."""
    _require_fitting(args)
    vkeys = load_signers(args.signer)
    data, envelope = load_parsed(args.file, _with_bytes)
    release, signers = verify_release(envelope, vkeys)
    checked = None if args.log is None else load_log(args.log, vkeys, args.before)
    logged = None if checked is None else _place(checked, data)
    compared = [_compared(release, text) for text in args.artefact]
    notes = _not_proved(release, checked, set(compared))
    if args.measurements is not None:
        _write_prediction(release, args)
        sys.stderr.write("".join(f"not shown: {printable(note)}\n" for note in notes))
        return 0
    facts = facts_of(release)
    facts["sha256"] = Digest.of(data).hex
    facts["signers"] = [_named(vkey) for vkey in signers]
    facts["compared"] = compared
    facts["log"] = logged
    facts["not_proved"] = notes
    if args.json:
        print_json(facts)
    else:
        print_text(_text(facts))
    return 0


def _require_fitting(args: argparse.Namespace) -> None:
    if args.output is not None and args.measurements is None:
        raise UsageError(
            "-o has nothing to write",
            code="output",
            expected="-o together with --measurements MACHINE",
            hint="what was checked goes to stdout; --json makes it one document",
        )
    if args.before is not None and args.log is None:
        raise UsageError(
            "--before is a checkpoint of a log, and no log was given",
            code="release_log",
            expected="--before together with --log DIR",
        )
    require_one_stdin([args.file, *args.signer, args.before])


def _with_bytes(data: bytes) -> tuple[bytes, Envelope]:
    return data, parse_envelope(data)


def _place(checked: CheckedLog, data: bytes) -> dict[str, Any]:
    """Say where in the log this very file stands; it is refused if it does not."""
    index = require_in_log(checked.entries, checked.log, data)
    checkpoint = checked.log.checkpoint
    return {
        "entry": entry_name(index),
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "before": None if checked.before is None else checked.before.size,
    }


def _not_proved(release: Release, checked: CheckedLog | None, compared: set[str]) -> list[str]:
    """Say what this look at a release leaves open."""
    notes = []
    if checked is None:
        notes.append(_UNLOGGED)
    else:
        if checked.before is None:
            notes.append("that the log only grew: give --before, a checkpoint of it that you kept")
        notes.append(
            "that others are shown the same log: compare the root of its checkpoint with theirs"
        )
    missing = [name for name in sorted(release.subjects) if name not in compared]
    if missing:
        notes.append(f"that you have these artefacts (--artefact): {', '.join(missing)}")
    notes.append("that the image came from its source: build it again and compare the digests")
    for machine, prediction in sorted(release.measurements.items()):
        unknown = [
            f"{one.name} ({event.name})"
            for one in prediction.registers
            for event in one.events
            if event.derivation is Derivation.UNKNOWN
        ]
        if unknown:
            notes.append(
                f"what your host presents: for {machine} nobody predicted {', '.join(unknown)}; "
                "`attested measure tdx` on the artefacts, with --acpi or --observed, does"
            )
    notes.append(
        "that your host's ACPI tables and boot variables are harmless: whoever pins RTMR0 accepts "
        "those that are in it"
    )
    return notes


def facts_of(release: Release) -> dict[str, Any]:
    """Return what people and programs are told about a release."""
    return {
        "version": release.version,
        "profile": release.profile,
        "subjects": {name: digest.hex for name, digest in sorted(release.subjects.items())},
        "packs": [pack.argument for pack in release.packs],
        "measurements": sorted(release.measurements),
    }


def _compared(release: Release, text: str) -> str:
    name, separator, place = text.partition("=")
    path = Path(place if separator else name)
    name = name if separator else path.name
    require_file(path)
    try:
        with path.open("rb") as file:
            digest = Digest(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise UsageError(
            f"cannot read {str(path)!a}", code="file", observed=error.strerror or "an I/O error"
        ) from error
    require_subject(release, name, digest)
    return name


def _write_prediction(release: Release, args: argparse.Namespace) -> None:
    found = release.measurements.get(args.measurements)
    if found is None:
        raise UsageError(
            f"the release predicts nothing for {args.measurements!a}",
            code="machine",
            expected="one of " + ", ".join(sorted(release.measurements)),
        )
    save_bytes(args.output or STDIN, encode_measurements(found), replace=args.force)


def _named(vkey: Vkey) -> str:
    return f"{vkey.name}+{vkey.key_id.hex()}"


def _text(facts: dict[str, Any]) -> str:
    lines = [f"release {facts['version']} ({facts['profile']})"]
    lines.append(f"  file        {facts['sha256']}")
    lines += [f"  signed by   {name}" for name in facts["signers"]]
    for name, digest in facts["subjects"].items():
        mark = "compared" if name in facts["compared"] else "named"
        lines.append(f"  {mark:<10}  {digest}  {name}")
    lines += [f"  pack        {argument}" for argument in facts["packs"]]
    lines += [f"  predicted   {name}" for name in facts["measurements"]]
    logged = facts["log"]
    if logged is not None:
        grown = (
            "" if logged["before"] is None else f"; the first {logged['before']} as you knew them"
        )
        lines.append(f"  logged      {logged['entry']} of {logged['origin']}{grown}")
        lines.append(f"              {counted(logged['size'], 'release')}, root {logged['root']}")
    lines += [f"  not shown: {note}" for note in facts["not_proved"]]
    return "".join(f"{printable(line)}\n" for line in lines)
