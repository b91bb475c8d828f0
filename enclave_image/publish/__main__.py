"""`python -m enclave_image.publish sbom|sign|append`: what comes after a build.

The release key never has to be on the machine that built: `sign` reads artefacts, `append` reads
the signed file, and neither needs a network.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from attestation.cli.files import is_regular, load_bytes, load_parsed, save_bytes, save_whole
from attestation.cli.main import describe
from attestation.cli.release_folder import CHECKPOINT, load_entries
from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, UsageError
from attestation.measure.document import parse_measurements
from attestation.merkle.note import parse_vkey
from attestation.merkle.note_key import NoteKey, parse_note_key
from attestation.release.dsse import MAX_ENVELOPE_BYTES, parse_envelope, sign_envelope
from attestation.release.history import (
    checkpoint_over,
    entry_name,
    read_checkpoint,
    sign_checkpoint,
    verify_log,
)
from attestation.release.packs import parse_pack_description
from attestation.release.statement import PAYLOAD_TYPE, Release, parse_release, verify_release
from enclave_image.publish.sbom import (
    components_of_manifest,
    components_of_pins,
    components_of_wheels,
    make_sbom,
)

_EPILOG = """\
examples:
  python -m enclave_image.publish sbom --version 0.1.0 --manifest image.manifest \\
      --manifest initrd.manifest --wheels wheels.json -o sbom.cdx.json
  attested policy key --name example.com/release -o release.key > release.vkey
  python -m enclave_image.publish sign --version 0.1.0 --profile cpu --key release.key \\
      --subject image.efi --subject image.raw --subject OVMF.fd --subject sbom.cdx.json \\
      --measurements tdx-64G=measurements.json -o release.dsse.json
  python -m enclave_image.publish append release.dsse.json --log enclave_image/measurements \\
      --key release.key --origin example.com/images
"""


def main(argv: list[str] | None = None) -> int:
    """Do what was asked for; 0, or the exit code of the refusal."""
    args = _parser().parse_args(argv)
    try:
        {"sbom": _sbom, "sign": _sign, "append": _append}[args.action](args)
    except AttestationError as error:
        print(describe(error), file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m enclave_image.publish",
        description="SBOM, signed release and log of releases.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    sbom = actions.add_parser("sbom", help="CycloneDX from mkosi's manifest and pinned wheels")
    sbom.add_argument("--version", required=True, help="of the gateway")
    sbom.add_argument("--manifest", metavar="F", action="append", default=[], help="mkosi's, JSON")
    sbom.add_argument("--wheels", metavar="F", help="wheels.json of the image")
    sbom.add_argument(
        "--requirements", metavar="F", action="append", default=[], help="pins, without --wheels"
    )
    sign = actions.add_parser("sign", help="make and sign the statement about artefacts")
    sign.add_argument("--version", required=True, help="of the image")
    sign.add_argument("--profile", required=True, help="cpu or gpu")
    sign.add_argument("--subject", metavar="FILE", action="append", default=[], required=True)
    sign.add_argument("--measurements", metavar="MACHINE=FILE", action="append", required=True)
    sign.add_argument("--pack", metavar="FILE", action="append", default=[], help="PACK.json")
    sign.add_argument("--key", metavar="F", action="append", required=True)
    append = actions.add_parser("append", help="put a signed release behind the log's others")
    append.add_argument("release", metavar="RELEASE")
    append.add_argument("--log", metavar="DIR", type=Path, required=True)
    append.add_argument("--key", metavar="F", required=True, help="signs the checkpoint")
    append.add_argument("--origin", help="name of a log that is begun")
    append.add_argument("--signer", metavar="VKEY", action="append", default=[], help="older keys")
    for one in (sbom, sign):
        one.add_argument("-o", "--output", metavar="FILE", required=True)
    return parser


def _sbom(args: argparse.Namespace) -> None:
    components = []
    for name in args.manifest:
        components += load_parsed(name, components_of_manifest)
    if args.wheels is not None:
        components += load_parsed(args.wheels, components_of_wheels)
    for name in args.requirements:
        components += load_parsed(
            name, lambda data: components_of_pins(data.decode("ascii", "replace"))
        )
    if not components:
        raise UsageError("nothing to list", code="sbom", expected="--manifest, --wheels")
    save_bytes(args.output, make_sbom(args.version, components), replace=False)


def _sign(args: argparse.Namespace) -> None:
    subjects: dict[str, Digest] = {}
    for name in args.subject:
        short = Path(name).name
        if short in subjects:
            raise UsageError(f"two subjects are called {short!a}", code="subject")
        subjects[short] = _digest(name)
    measurements = {}
    for text in args.measurements:
        machine, separator, name = text.partition("=")
        if not separator or machine in measurements:
            raise UsageError(
                f"{machine!a} has no measurements, or has them twice",
                code="measurements",
                expected="--measurements MACHINE=FILE, once for each machine",
            )
        measurements[machine] = load_parsed(name, parse_measurements)
    release = Release(
        version=args.version,
        profile=args.profile,
        subjects=subjects,
        measurements=measurements,
        packs=tuple(load_parsed(name, parse_pack_description) for name in args.pack),
    )
    # Read back as a verifier will before a key touches it.
    payload = release.canonical
    parse_release(payload)
    keys = [load_parsed(name, parse_note_key) for name in args.key]
    envelope = sign_envelope(PAYLOAD_TYPE, payload, keys).encode()
    parse_envelope(envelope)
    save_bytes(args.output, envelope, replace=False)


def _append(args: argparse.Namespace) -> None:
    """Append, in an order that leaves a log that verifies wherever it is cut short.

    1. the log as it is verifies with its own checkpoint (or is begun)
    2. with the new entry it verifies with the new checkpoint, which extends the old one
    3. the entry is written, then the checkpoint; an entry without one is overwritten by nobody
    """
    key: NoteKey = load_parsed(args.key, parse_note_key)
    vkeys = [parse_vkey(text) for text in (key.vkey, *args.signer)]
    entry = load_bytes(args.release, limit=MAX_ENVELOPE_BYTES)
    verify_release(parse_envelope(entry), vkeys)
    try:
        args.log.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make {str(args.log)!a}", code="file", observed=error.strerror or "an I/O error"
        ) from error
    entries = load_entries(str(args.log))
    place = args.log / CHECKPOINT
    before = None
    if is_regular(place):
        before = read_checkpoint(load_bytes(str(place)), vkeys)
        verify_log(entries, before, vkeys)
    elif entries or not args.origin:
        raise UsageError(
            "this log has no checkpoint",
            code="release_log",
            expected="--origin for a log that is begun, in a folder without entries",
        )
    origin = args.origin if before is None else before.origin
    after = checkpoint_over(origin, [*entries, entry])
    verify_log([*entries, entry], after, vkeys, before=before)
    save_whole(str(args.log / entry_name(len(entries))), entry, replace=False)
    save_whole(str(place), sign_checkpoint(after, key), replace=before is not None)


def _digest(name: str) -> Digest:
    if not is_regular(name):
        raise UsageError(f"{name!a} is not a regular file", code="file")
    with Path(name).open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").digest())


if __name__ == "__main__":
    sys.exit(main())
