"""`attested model lock`: write down which files a model is, and which engine serves it how."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.cli.files import STDIN, load_bytes, print_json, require_absent, save_bytes
from attestation.cli.model_folder import (
    Entry,
    ModelFolder,
    Survey,
    hash_files,
    open_folder,
    role_of,
    survey,
)
from attestation.cli.progress import Bytes
from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError, UsageError
from attestation.statement.model_lock import (
    NAME,
    LockedEngine,
    LockedFile,
    ModelLock,
    ModelSource,
    Role,
    parse_model_lock,
)

if TYPE_CHECKING:
    import argparse

HELP = "write a model lock from a folder"

_EPILOG = """\
Every file below DIR is listed, but those whose name, or whose folder's name, starts with a dot.
Links are followed inside DIR only; in a Hugging Face cache (models--ORG--NAME/snapshots/REVISION)
also to that model's blobs, and repository and revision are taken from its name.  The lock is
canonical JSON in one line; its SHA-256 (`sha256sum model.lock`) is the model digest.

exit codes: 0 written; 2 usage, DIR is no folder, or OUT exists and there is no --force;
13 a name or argument that cannot stand in a lock; 14 a file that
cannot be read, is neither file nor folder, leads out of the folder, or changed meanwhile.

examples:
  attested model lock ./tiny --name org/tiny -o model.lock
  attested model lock ~/.cache/huggingface/hub/models--org--tiny/snapshots/0123abcd... \\
      --engine vllm==0.32.0 --args-file engine.args -o model.lock
  attested model lock ./tiny --name tiny --repo org/tiny --revision 0123abcd... \\
      --engine vllm==0.32.0 --arg=--max-model-len=4096 --arg=--dtype=bfloat16
"""
_ENGINE = re.compile(r"([^=]+)==([^=]+)")
_MAX_ARGS_FILE = 1 << 20
_UNREAD = Digest(bytes(32))


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("folder", metavar="DIR", help="folder of the model's files")
    add("--name", metavar="N", help="name of the model (in a Hugging Face cache: the repository)")
    add("--repo", metavar="R", help="repository the files were published in, with --revision")
    add("--revision", metavar="REV", help="revision of that repository")
    add("--engine", metavar="NAME==VERSION", help="engine that serves it")
    add("--arg", metavar="A", action="append", help="an argument of the engine: --arg=--flag=value")
    add("--args-file", metavar="F", help="the engine's arguments, one a line, taken as they are")
    add("--links-within", metavar="ROOT", help="folder that links in DIR may lead into (DIR)")
    add("-o", "--output", metavar="OUT", default=STDIN, help="where to write (stdout)")
    add("--force", action="store_true", help="with -o: replace the file if there is one")
    add("--json", action="store_true", help="with -o: say as JSON what was written")


def run(args: argparse.Namespace) -> int:
    """Survey, hash, write, say what was written."""
    folder = open_folder(args.folder, args.links_within)
    _require_outside(args.output, folder)
    if not args.force:
        require_absent(args.output)
    source, found = _source(args, folder), survey(folder)
    entries = _entries(found)
    draft = ModelLock(
        model=_name(args, source),
        files=tuple(_locked(entry, _UNREAD) for entry in entries),
        source=source,
        engine=_engine(args),
    )
    # Read as a verifier will, before the digests are known: they can take minutes.
    parse_model_lock(draft.canonical)
    _write(args, replace(draft, files=_locked_files(entries)), found)
    return 0


def _entries(found: Survey) -> tuple[Entry, ...]:
    for error in found.refused.values():
        raise error
    if not any(role_of(entry.path) is Role.WEIGHTS for entry in found.entries):
        raise UsageError(
            "no file of this folder is called like weights",
            code="model_weights",
            expected="*.safetensors, *.gguf, *.bin or the like (docs/spec/model.md)",
            hint="name the folder that holds the model's own files",
        )
    return found.entries


def _locked_files(entries: tuple[Entry, ...]) -> tuple[LockedFile, ...]:
    progress = Bytes("hashed", sum(entry.size for entry in entries))
    files = []
    for entry, digest in hash_files(entries, progress.add):
        if not isinstance(digest, Digest):
            raise digest
        files.append(_locked(entry, digest))
    progress.close()
    return tuple(files)


def _locked(entry: Entry, digest: Digest) -> LockedFile:
    return LockedFile(path=entry.path, role=role_of(entry.path), sha256=digest, size=entry.size)


def _source(args: argparse.Namespace, folder: ModelFolder) -> ModelSource | None:
    if (args.repo is None) != (args.revision is None):
        raise UsageError("--repo and --revision are given together or not at all", code="source")
    if args.repo is None:
        return folder.source
    return ModelSource(repository=args.repo, revision=args.revision)


def _name(args: argparse.Namespace, source: ModelSource | None) -> str:
    name: str | None = args.name or (source.repository if source else None)
    if name is None or not NAME.fullmatch(name):
        raise UsageError(
            "the model has no name that a lock can carry",
            code="model_name",
            expected="--name with 1 to 128 characters of A-Z a-z 0-9 . _ : / @ + -",
        )
    return name


def _engine(args: argparse.Namespace) -> LockedEngine | None:
    arguments = (*(args.arg or ()), *_lines(args.args_file))
    if args.engine is None:
        if arguments:
            raise UsageError("arguments need an engine", code="engine", expected="--engine")
        return None
    parts = _ENGINE.fullmatch(args.engine)
    if parts is None:
        raise UsageError(
            "--engine is not a name and a version", code="engine", expected="NAME==VERSION"
        )
    return LockedEngine(name=parts[1], version=parts[2], arguments=arguments)


def _lines(name: str | None) -> tuple[str, ...]:
    if name is None:
        return ()
    data = load_bytes(name, limit=_MAX_ARGS_FILE)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError("the file of arguments is not UTF-8", code="args_file") from None
    return tuple(line for line in text.split("\n") if line)


def _require_outside(output: str, folder: ModelFolder) -> None:
    if output != STDIN and Path(output).absolute().parent.resolve().is_relative_to(folder.path):
        raise UsageError(
            "the lock would lie in the folder that it describes",
            code="output",
            hint="write it beside the folder: it would be a file that no lock lists",
        )


def _write(args: argparse.Namespace, lock: ModelLock, found: Survey) -> None:
    save_bytes(args.output, lock.canonical, replace=args.force)
    if found.passed_over:
        print(found.hidden, file=sys.stderr)
    if args.output == STDIN:
        return
    if args.json:
        print_json(lock.facts() | {"passed_over": found.to_json()})
    else:
        files = counted(len(lock.files), "file")
        print(f"{lock.digest.hex}  {lock.model}: {files}, {lock.size} bytes")
