"""Reading and writing for commands: files, standard input once, instants, roots."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attestation.bundle import MAX_BUNDLE_BYTES
from attestation.cli.durable import create_durably, write_durably
from attestation.encoding.strict_json import JsonLimits, parse_json
from attestation.errors import MalformedError, UsageError
from attestation.tdx.anchor import INTEL_ANCHOR, parse_anchor
from attestation.tdx.collateral import parse_collateral, parse_dcap_collateral

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral

T = TypeVar("T")

STDIN = "-"
INSTANT = "Unix seconds, RFC 3339, or a date, which is its 00:00Z (now)"
"""What `parse_instant` reads, for the help of options."""
MAX_BODY_BYTES = 1 << 28
_ENDORSEMENTS = JsonLimits(max_bytes=2 << 20, max_depth=4, max_members=64)
_PLAIN_MARKS = str.maketrans({"✓": "+", "✗": "x", "·": ".", "…": "..."})


def load_bytes(name: str, *, limit: int = MAX_BUNDLE_BYTES) -> bytes:
    """Return the contents of a file, or of standard input for "-".

    At most `limit` bytes and one more, so that a parser can say that there were too many.
    Raises `UsageError` if the file cannot be read.
    """
    return _read(name, limit + 1)


def load_body(name: str) -> bytes:
    """Return all of a file or of standard input.

    A body cut short would look forged, so `UsageError` for more than 256 MiB.
    """
    body = _read(name, MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise UsageError(
            f"{name!a} is too large for a body",
            code="file",
            expected=f"at most {MAX_BODY_BYTES} bytes",
        )
    return body


def load_regular(path: Path) -> bytes:
    """Return a body out of a folder that somebody else may have filled; see `require_regular`."""
    require_regular(path)
    return load_body(str(path))


def is_folder(name: str | Path) -> bool:
    """Whether this is a folder; an empty name is none.

    Unlike `Path.is_dir` it raises for no name, be it too long or behind a closed folder: whoever
    reads the file then says which one it was.
    """
    return os.path.isdir(name)  # noqa: PTH112


def is_regular(name: str | Path) -> bool:
    """Whether this is a regular file, or a link to one; raises for no name, as `is_folder`."""
    return os.path.isfile(name)  # noqa: PTH113


def require_regular(path: Path) -> None:
    """Raise `UsageError` for anything but a regular file: reading another one need not end."""
    if not is_regular(path):
        raise UsageError(
            f"{str(path)!a} is not a regular file", code="file", hint="take it out of the folder"
        )


def require_file(path: Path) -> None:
    """Raise `UsageError` unless an argument names a regular file that is there."""
    if not os.path.lexists(path):
        raise UsageError(
            f"there is no file {str(path)!a}",
            code="file",
            expected="the name of a file that is there",
            observed="no such file",
        )
    if not is_regular(path):
        raise UsageError(
            f"{str(path)!a} is not a regular file",
            code="file",
            expected="a regular file, or a link to one",
        )


def list_folder(name: str) -> list[Path]:
    """Return what is in a folder, in order.  Raises `UsageError` if that cannot be told."""
    try:
        return sorted(Path(name).iterdir())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{name!a} is not a folder that can be read",
            code="file",
            expected="a folder, and the right to list it",
            observed=_reason(error),
        ) from error


def load_parsed(name: str, parse: Callable[[bytes], T]) -> T:
    """Return what `parse` makes of a file; its `MalformedError` then names the file."""
    data = load_bytes(name)
    try:
        return parse(data)
    except MalformedError as error:
        raise MalformedError(
            f"{'standard input' if name == STDIN else ascii(name)}: {error.message}",
            code=error.code,
            expected=error.expected,
            observed=error.observed,
            hint=error.hint,
        ) from error


def _read(name: str, count: int) -> bytes:
    try:
        if name == STDIN:
            return sys.stdin.buffer.read(count)
        with Path(name).open("rb") as file:
            return file.read(count)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot read {name!a}",
            code="file",
            expected='a file that this user may read, or "-" for standard input',
            observed=_reason(error),
        ) from error


def _reason(error: OSError | ValueError) -> str:
    reason = error.strerror if isinstance(error, OSError) else "not a file name"
    return reason or "an I/O error"


def require_absent(name: str) -> None:
    """Refuse to write where something is; before long work, and `save_bytes` refuses it again."""
    if name != STDIN and os.path.lexists(name):
        raise _exists(name)


def _exists(name: str) -> UsageError:
    return UsageError(
        f"{name!a} exists", code="file", hint="--force replaces it; or give -o another name"
    )


def save_bytes(name: str, data: bytes, *, replace: bool, mode: int = 0o666) -> None:
    """Write `data` to a file, or to standard output for "-".

    A regular file has `mode`, less what the umask takes, even where it replaces one.  Raises
    `UsageError` if the file cannot be written, or is there and not to be replaced.
    """
    if name == STDIN:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        flags = os.O_TRUNC if replace else os.O_EXCL
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, mode)
        with os.fdopen(descriptor, "wb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & mode)
            file.write(data)
    except FileExistsError:
        raise _exists(name) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {name!a}", code="file", observed=_reason(error)) from error


def save_whole(name: str, data: bytes, *, replace: bool) -> None:
    """Write `data` to a file that others may read at any time: whole or not at all.

    To standard output for "-".  Raises `UsageError` as `save_bytes` does.
    """
    if name == STDIN:
        save_bytes(name, data, replace=replace)
        return
    try:
        (write_durably if replace else create_durably)(Path(name), data)
    except FileExistsError:
        raise _exists(name) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {name!a}", code="file", observed=_reason(error)) from error


def require_one_stdin(names: Sequence[str | None]) -> None:
    """Refuse to read standard input twice."""
    if list(names).count(STDIN) > 1:
        raise UsageError(
            "standard input is named twice", code="stdin", expected='"-" for one argument only'
        )


def load_anchors(names: Sequence[str] | None) -> tuple[Anchor, ...]:
    """Return the roots in files, or Intel's if none is named."""
    if not names:
        return (INTEL_ANCHOR,)
    return tuple(load_parsed(name, parse_anchor) for name in names)


def load_collateral(name: str) -> Collateral:
    """Return endorsements in a bundle's form or in dcap-qvl's (hexadecimal instead of base64url).

    Raises `MalformedError`.
    """
    return load_parsed(name, parse_endorsement_file)


def parse_endorsement_file(data: bytes) -> Collateral:
    """Return the set in a file of either spelling, or raise `MalformedError`."""
    try:
        return parse_collateral(parse_json(data, _ENDORSEMENTS))
    except MalformedError:
        return parse_dcap_collateral(data)


def parse_instant(text: str | None) -> int:
    """Return Unix seconds of RFC 3339 text or digits; now for None.  Raises `UsageError`."""
    if text is None:
        return int(time.time())
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise _bad_instant(text) from None
    if len(text) == len("2025-06-15"):
        moment = moment.replace(tzinfo=dt.UTC)
    if moment.tzinfo is None or moment.year < 1970:
        raise _bad_instant(text)
    return int(moment.timestamp())


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON document on one line."""
    print(json.dumps(value, ensure_ascii=True, sort_keys=True))


def print_text(text: str) -> None:
    """Print text, with what the terminal cannot show replaced."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN_MARKS).encode(encoding, "replace").decode(encoding)
    sys.stdout.write(text)


def _bad_instant(text: str) -> UsageError:
    return UsageError(
        f"{ascii(text)[:80]} is not an instant",
        code="instant",
        expected="Unix seconds, a date, or a time with offset like 2025-06-15T12:00:00Z",
    )
