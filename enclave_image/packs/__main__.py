"""`python -m enclave_image.packs model|engine`: build a pack, print the argument for its root."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from attestation.cli.files import load_parsed, save_bytes
from attestation.cli.main import describe
from attestation.errors import AttestationError, UnavailableError, UsageError
from attestation.release.packs import (
    ENGINE_NAME,
    ENGINE_VERSION,
    EngineLock,
    PackDescription,
    PackKind,
    tree_digest,
)
from attestation.statement.model_lock import parse_model_lock
from enclave_image.packs.build import Contents, build_pack
from enclave_image.packs.stage import stage_engine, stage_model

_EPILOG = """\
Writes OUTPUT and OUTPUT.json, and prints what has to stand on the measured command line.  Free
space needed: about twice the size of the files.  Check one with `attested release pack --root`.

exit codes: 0 built; 2 usage, a folder that is missing or empty, an output that exists; 10 a file is
not that of the lock; 13 the lock is malformed; 14 mkfs.erofs is missing or failed, or a file cannot
be read, written or put into a pack

examples:
  attested model lock ./tiny --name org/tiny --engine vllm==0.32.0 -o model.lock
  python -m enclave_image.packs model ./tiny model.lock -o model.raw
  python -m enclave_image.packs engine ./venv --name vllm --version 0.32.0 -o engine.raw
"""


def main(argv: list[str] | None = None) -> int:
    """Build what was asked for; 0, or the exit code of the refusal."""
    args = _parser().parse_args(argv)
    try:
        pack = _model(args) if args.kind == "model" else _engine(args)
        save_bytes(_description_of(args.output), pack.canonical, replace=False)
    except AttestationError as error:
        print(describe(error), file=sys.stderr)
        return error.exit_code
    except OSError as error:
        refusal = UnavailableError(
            "the pack cannot be made",
            code="pack_file",
            observed=f"{error.strerror or 'an I/O error'}: {error.filename!a}",
            hint="is there space, and may this user write there?",
        )
        print(describe(refusal), file=sys.stderr)
        return refusal.exit_code
    print(pack.argument)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m enclave_image.packs",
        description="Build a reproducible EROFS + dm-verity volume.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    model = kinds.add_parser("model", help="the files of a model lock")
    model.add_argument("folder", metavar="DIR", type=Path)
    model.add_argument("lock", metavar="LOCK", help="made by `attested model lock`")
    engine = kinds.add_parser("engine", help="a folder with an engine, such as a venv")
    engine.add_argument("folder", metavar="DIR", type=Path)
    engine.add_argument("--name", required=True, help="e.g. vllm; goes into the engine's lock")
    engine.add_argument("--version", required=True, help="of the engine, e.g. 0.32.0")
    for one in (model, engine):
        one.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
        one.add_argument("--mkfs", default="mkfs.erofs", help="mkfs.erofs (the one on PATH)")
    return parser


def _model(args: argparse.Namespace) -> PackDescription:
    lock = load_parsed(args.lock, parse_model_lock)
    _require_new(args.output, args.folder)

    def fill(staged: Path) -> Contents:
        stage_model(args.folder, lock, staged)
        return Contents(kind=PackKind.MODEL, name=lock.model, lock=lock.canonical)

    return build_pack(fill, args.output, mkfs=args.mkfs)


def _engine(args: argparse.Namespace) -> PackDescription:
    _require_named(args.name, args.version)
    _require_new(args.output, args.folder)

    def fill(staged: Path) -> Contents:
        entries = stage_engine(args.folder, staged)
        lock = EngineLock(
            name=args.name,
            version=args.version,
            files=len(entries),
            tree=tree_digest(entries),
        )
        return Contents(
            kind=PackKind.ENGINE, name=f"{args.name}/{args.version}", lock=lock.canonical
        )

    return build_pack(fill, args.output, mkfs=args.mkfs)


def _require_named(name: str, version: str) -> None:
    """Refuse before long work what nobody could read back out of the pack."""
    for what, text, pattern in (("name", name, ENGINE_NAME), ("version", version, ENGINE_VERSION)):
        if re.fullmatch(pattern, text, re.ASCII) is None:
            raise UsageError(
                f"--{what} is not usable in an engine's lock",
                code="engine_lock",
                expected=pattern,
                observed=ascii(text)[:80],
            )


def _require_new(output: Path, folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{str(folder)!a} is not a folder", code="file", expected="a folder")
    # Before long work; both are written without replacing anything, too.
    for name in (str(output), _description_of(output)):
        if os.path.lexists(name):
            raise UsageError(f"{name!a} exists", code="file", hint="give -o another name")


def _description_of(output: Path) -> str:
    return f"{output}.json"


if __name__ == "__main__":
    sys.exit(main())
