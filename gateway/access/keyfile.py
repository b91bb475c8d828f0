"""The file of API keys: digests and grants, never a key; rewritten atomically under a lock."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attestation.cli.durable import write_privately
from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits, parse_json
from attestation.errors import MalformedError, UnavailableError, UsageError
from gateway.access.grants import parse_grant
from gateway.access.locking import locked
from gateway.access.principal import Grant, subject_of

SCHEMA = "attested-gateway/keys/v1"
KEY_PREFIX = "ag-"
_KEY_BYTES = 32
_PLACE = re.compile(r"\ba key\.(grant\.)?(quota\.)?")
_LISTS = re.compile(r"\b(routes|models)\b")
_LABEL = r"[A-Za-z0-9._:/@+ -]{0,64}"
_MAX_FILE_BYTES = 64 << 20
_LIMITS = JsonLimits(max_depth=8, max_members=10_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key as the file knows it.  `revoked` is the unix second it was revoked, or None."""

    sub: Digest
    label: str
    created: int
    grant: Grant
    revoked: int | None = None

    def to_json(self) -> dict[str, object]:
        """The record as the file stores it."""
        return {
            "created": self.created,
            "grant": self.grant.to_json(),
            "label": self.label,
            "revoked": self.revoked,
            "sub": self.sub.base64url,
        }


def new_key() -> str:
    """Return a fresh API key: a recognisable prefix and 256 random bits in base64url."""
    return KEY_PREFIX + base64url.encode(secrets.token_bytes(_KEY_BYTES))


def parse_keys(data: bytes) -> tuple[KeyRecord, ...]:
    """Return the records of a keys file, in its order.

    Raises `MalformedError` for anything unknown, doubled or out of bounds: a grant that is not
    understood must not be guessed.
    """
    members = Members(parse_json(data, _LIMITS), "the keys file")
    members.text("schema", choices=(SCHEMA,))
    records = tuple(_parse_record(item) for item in members.array("keys", max_items=1_000_000))
    members.close()
    if len({record.sub for record in records}) != len(records):
        raise MalformedError("the keys file names one key twice", code="keys_file")
    return records


def load_keys(path: Path) -> tuple[KeyRecord, ...]:
    """Read the records of the file at `path`.

    Raises `UnavailableError` if it cannot be read, `UsageError` if others than its owner may
    write to it, `MalformedError` if it does not parse.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnavailableError(
            f"the keys file {path} cannot be read",
            code="keys_file",
            observed=error.strerror or "an I/O error",
            hint="make one with: attested keys add --keys-file FILE"
            if isinstance(error, FileNotFoundError)
            else "name a file that you may read",
        ) from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            f"others may write to the keys file {path}",
            code="keys_file",
            observed=f"mode {stat.S_IMODE(mode):o}",
            hint=f"chmod 600 {path}",
        )
    if len(data) > _MAX_FILE_BYTES:
        raise MalformedError(
            "the keys file is too large", code="size", expected=f"at most {_MAX_FILE_BYTES} bytes"
        )
    try:
        return parse_keys(data)
    except MalformedError as error:
        raise MalformedError(
            f"the keys file {path} cannot be used: {error.message}",
            code=error.code,
            expected=error.expected,
            observed=error.observed,
            hint="it is written by `attested keys` alone; take it from a backup or start a new one",
        ) from error


def add_key(path: Path, *, label: str, grant: Grant, now: int) -> str:
    """Add a key with this grant to the file (made if absent) and return the key.

    The key itself is stored nowhere: this is the only time it can be seen.  Raises `UsageError`
    for a label or grant that the file has no form for, and what `load_keys` raises.
    """
    key = new_key()
    record = KeyRecord(sub=subject_of(key.encode("ascii")), label=label, created=now, grant=grant)
    _require_readable(record)
    with _locked(path):
        records = load_keys(path) if path.exists() else ()
        _rewrite(path, (*records, record))
    return key


def _require_readable(record: KeyRecord) -> None:
    try:
        _parse_record(record.to_json())
    except MalformedError as error:
        raise UsageError(
            f"no such key can be made: {_PLACE.sub('', error.message)}",
            code=error.code,
            expected=error.expected,
            observed=error.observed,
            hint="several routes or models are separated by spaces"
            if _LISTS.search(error.message)
            else "attested keys add --help says what each option takes",
        ) from error


def revoke_key(path: Path, *, name: str, now: int) -> KeyRecord:
    """Mark the one key with this label or with this beginning of its digest as revoked.

    `name` is a whole label, or at least 8 characters of the digest in base64url.  Raises
    `UsageError` if it names no key that is in use, or more than one.
    """
    with _locked(path):
        records = load_keys(path)
        chosen = _the_one(records, name)
        revoked = replace(chosen, revoked=now)
        _rewrite(path, tuple(revoked if record is chosen else record for record in records))
    return revoked


def _the_one(records: tuple[KeyRecord, ...], name: str) -> KeyRecord:
    matches = [
        record
        for record in records
        if record.revoked is None
        and (
            (name and record.label == name)
            or (len(name) >= 8 and record.sub.base64url.startswith(name))
        )
    ]
    if len(matches) == 1:
        return matches[0]
    raise UsageError(
        "no single key can be revoked by that name",
        code="key_name",
        expected="a label, or at least 8 characters of a digest, of exactly one key in use",
        observed=f"{len(matches)} keys",
        hint="attested keys list shows labels and digests",
    )


def _parse_record(value: Any) -> KeyRecord:  # noqa: ANN401 - JSON of any shape
    members = Members(value, "a key")
    record = KeyRecord(
        sub=members.digest_base64url("sub"),
        label=members.text("label", pattern=_LABEL, max_chars=64),
        created=members.integer("created"),
        grant=parse_grant(members.object("grant")),
        revoked=None if members.is_null("revoked") else members.integer("revoked"),
    )
    members.close()
    return record


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside the file, so that two commands do not lose each other's key."""
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path))
        except OSError as error:
            raise _unwritable(path, error) from error
        yield


def _rewrite(path: Path, records: tuple[KeyRecord, ...]) -> None:
    """Replace the file in one step, durable before the command reports success."""
    document = {"keys": [record.to_json() for record in records], "schema": SCHEMA}
    try:
        write_privately(path, json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the keys file {path} cannot be written",
        code="keys_file",
        observed=error.strerror or "an I/O error",
        hint="check that the folder exists and belongs to you",
    )
