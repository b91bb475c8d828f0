"""`python -m enclave_image.publish sbom|sign|append`: what comes after a build.

The release key never has to be on the machine that built: `sign` reads artefacts, `append` reads
the signed file, and neither needs a network.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

from attestation.cli.files import (
    STDIN,
    is_regular,
    load_bytes,
    load_parsed,
    print_text,
    require_file,
    save_bytes,
    save_whole,
)
from attestation.cli.main import describe
from attestation.cli.policy_source import load_signers
from attestation.cli.release_folder import CHECKPOINT, load_entries
from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.encoding.printable import printable
from attestation.errors import AttestationError, EvidenceError, UsageError
from attestation.measure.document import parse_measurements
from attestation.merkle.note import parse_vkey
from attestation.merkle.note_key import NoteKey, parse_note_key
from attestation.release.dsse import MAX_ENVELOPE_BYTES, parse_envelope, sign_envelope
from attestation.release.history import (
    ReleaseLog,
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
Nothing that exists is replaced.  What was written, signed or appended is said on stdout, or on
stderr where -o is "-".

exit codes: 0 done; 2 usage, a file that is missing or there already, a release that is in the log;
10 a release that does not agree with itself, another one of its version in the log, or a log that
does not hold; 13 a file is malformed

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
    sign.add_argument("--profile", required=True, choices=("cpu", "gpu"), help="of the image")
    sign.add_argument("--subject", metavar="FILE", action="append", default=[], required=True)
    sign.add_argument("--measurements", metavar="MACHINE=FILE", action="append", required=True)
    sign.add_argument("--pack", metavar="FILE", action="append", default=[], help="PACK.json")
    sign.add_argument("--key", metavar="F", action="append", required=True)
    append = actions.add_parser("append", help="put a signed release behind the log's others")
    append.add_argument("release", metavar="RELEASE")
    append.add_argument("--log", metavar="DIR", type=Path, required=True)
    append.add_argument("--key", metavar="F", required=True, help="signs the checkpoint")
    append.add_argument("--origin", help="name of a log that is begun")
    append.add_argument(
        "--signer", metavar="V", action="append", default=[], help="older keys (vkey, or its file)"
    )
    for one in (sbom, sign):
        one.add_argument("-o", "--output", metavar="FILE", required=True)
    return parser


def _sbom(args: argparse.Namespace) -> None:
    _require_new(args.output)
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
    document = make_sbom(args.version, components)
    save_bytes(args.output, document, replace=False)
    _say(args.output, [f"{args.output}: SBOM, SHA-256 {Digest.of(document).hex}"])


def _sign(args: argparse.Namespace) -> None:
    _require_new(args.output)
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
    signatures = parse_envelope(envelope).signatures
    save_bytes(args.output, envelope, replace=False)
    what = f"release {release.version} ({release.profile}), {counted(len(subjects), 'subject')}"
    lines = [f"{args.output}: {what}, SHA-256 {Digest.of(envelope).hex}"]
    lines += [f"  signed by {one.keyid}" for one in signatures]
    lines.append("  not in the log of releases yet: append it")
    _say(args.output, lines)


def _append(args: argparse.Namespace) -> None:
    """Append, in an order that leaves a log that verifies wherever it is cut short.

    1. the log as it is verifies with its own checkpoint (or is begun)
    2. with the new entry it verifies with the new checkpoint, which extends the old one
    3. the entry is written, then the checkpoint; an entry without one is overwritten by nobody
    """
    key: NoteKey = load_parsed(args.key, parse_note_key)
    vkeys = [parse_vkey(key.vkey), *load_signers(args.signer)]
    entry = load_bytes(args.release, limit=MAX_ENVELOPE_BYTES)
    release, _signers = verify_release(parse_envelope(entry), vkeys)
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
        if args.origin not in (None, before.origin):
            raise UsageError(
                "the log has another name",
                code="release_log",
                expected=before.origin,
                observed=ascii(args.origin)[:80],
                hint="leave --origin out, or give another folder to begin a log in",
            )
        _require_unlogged(verify_log(entries, before, vkeys), entries, release, entry)
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
    what = f"release {release.version} ({release.profile}), SHA-256 {Digest.of(entry).hex}"
    lines = [
        f"{entry_name(len(entries))}: {what}",
        f"{place}: {origin}, {counted(after.size, 'release')}, root {after.root.hex()}",
        "  publish and keep this checkpoint: who has it sees whether an entry changes later",
    ]
    _say(str(place), lines)


def _require_unlogged(
    log: ReleaseLog, entries: list[bytes], release: Release, entry: bytes
) -> None:
    """Refuse a version that is in the log already; the same file is only a repeated command."""
    name = f"release {release.version} ({release.profile})"
    for index, one in enumerate(log.releases):
        if (one.version, one.profile) != (release.version, release.profile):
            continue
        if entries[index] == entry:
            raise UsageError(
                f"this {name} stands in the log already",
                code="release_log",
                expected="a release that is not in it yet",
                observed=f"the same file as {entry_name(index)}",
                hint="nothing is left to do: nothing was changed",
            )
        raise EvidenceError(
            f"another {name} stands in the log already",
            code="release_log",
            expected="each version of a profile once",
            observed=f"{entry_name(index)}, SHA-256 {Digest.of(entries[index]).hex}",
            hint="a release is never replaced: sign this one under a new --version",
        )


def _require_new(output: str) -> None:
    if output != STDIN and os.path.lexists(output):
        raise UsageError(
            f"{output!a} exists",
            code="file",
            expected="a name that is free: nothing that was made is replaced",
            hint="give -o another name, or take the file away",
        )


def _say(output: str, lines: list[str]) -> None:
    """Say what was done; on stderr where the result itself went to stdout."""
    text = "".join(f"{printable(line)}\n" for line in lines)
    if output == STDIN:
        sys.stderr.write(text)
    else:
        print_text(text)


def _digest(name: str) -> Digest:
    require_file(Path(name))
    with Path(name).open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").digest())


if __name__ == "__main__":
    sys.exit(main())
