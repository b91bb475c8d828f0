"""`attested release verify`: who signed a release, and are these its artefacts?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attestation.cli.files import (
    STDIN,
    load_parsed,
    print_json,
    print_text,
    require_regular,
    save_bytes,
)
from attestation.encoding.digest import Digest
from attestation.encoding.printable import printable
from attestation.errors import UsageError
from attestation.measure.document import encode_measurements
from attestation.merkle.note import parse_vkey
from attestation.release.dsse import parse_envelope
from attestation.release.statement import Release, require_subject, verify_release

if TYPE_CHECKING:
    import argparse

    from attestation.merkle.note import Vkey

HELP = "check a signed release, and artefacts against it"

_EPILOG = """\
The release is a DSSE envelope; --signer is the verifier key that you took from somewhere else than
the release.  --measurements writes the prediction for one machine, for `attested policy import` or
`attested verify --measurements`.  Without it, what was checked is printed.

exit codes: 0 signed by a listed key, and every artefact given is that of the release; 10 it is
not; 13 the release or a key is malformed; 2 usage

examples:
  attested release verify release.dsse.json --signer VKEY --artefact gateway.efi
  attested release verify release.dsse.json --signer VKEY --artefact model.raw=/srv/packs/m.raw
  attested release verify release.dsse.json --signer VKEY --measurements tdx-64G > measurements.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("file", metavar="RELEASE", help='signed release (DSSE); "-" is stdin')
    add("--signer", metavar="VKEY", action="append", required=True, help="who may have signed")
    add("--artefact", metavar="[NAME=]FILE", action="append", default=[], help="file to compare")
    add("--measurements", metavar="MACHINE", help="write that prediction, and nothing else")
    add("-o", "--output", metavar="FILE", default=STDIN, help="with --measurements (stdout)")
    add("--force", action="store_true", help="replace a file that exists")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Verify, compare, print."""
    vkeys = [parse_vkey(text) for text in args.signer]
    release, signers = verify_release(load_parsed(args.file, parse_envelope), vkeys)
    compared = [_compared(release, text) for text in args.artefact]
    if args.measurements is not None:
        _write_prediction(release, args)
        return 0
    facts = facts_of(release)
    facts["signers"] = [_named(vkey) for vkey in signers]
    facts["compared"] = compared
    if args.json:
        print_json(facts)
    else:
        print_text(_text(facts))
    return 0


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
    require_regular(path)
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
    save_bytes(args.output, encode_measurements(found), replace=args.force)


def _named(vkey: Vkey) -> str:
    return f"{vkey.name}+{vkey.key_id.hex()}"


def _text(facts: dict[str, Any]) -> str:
    lines = [f"release {facts['version']} ({facts['profile']})"]
    lines += [f"  signed by   {name}" for name in facts["signers"]]
    for name, digest in facts["subjects"].items():
        mark = "compared" if name in facts["compared"] else "named"
        lines.append(f"  {mark:<10}  {digest}  {name}")
    lines += [f"  pack        {argument}" for argument in facts["packs"]]
    lines += [f"  predicted   {name}" for name in facts["measurements"]]
    return "".join(f"{printable(line)}\n" for line in lines)
