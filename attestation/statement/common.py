"""What all statements share: their one byte form, and its place in a quote."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError

if TYPE_CHECKING:
    from attestation.encoding.members import Members

REPORT_DATA_BYTES: Final = 64
LOG_NAME: Final = re.compile(r"[A-Za-z0-9._:/@-]{1,48}", re.ASCII)
LOG_ORIGIN: Final = re.compile(rf"{LOG_NAME.pattern}/[0-9a-f]{{16}}", re.ASCII)
_BOOTSEED: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Canonical(ABC):
    """A value with one JSON form, hence one byte form, one digest and one REPORTDATA."""

    __slots__ = ()

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""

    @property
    def canonical(self) -> bytes:
        """The RFC 8785 form, which is what is hashed."""
        return jcs.canonicalize(self.to_json())

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical form."""
        return Digest.of(self.canonical)

    @property
    def report_data(self) -> bytes:
        """The 64 bytes a quote over this value carries."""
        return report_data(self.canonical)


def report_data(canonical: bytes) -> bytes:
    """Return the 64-byte REPORTDATA of a statement: its SHA-256, then 32 zero bytes."""
    return hashlib.sha256(canonical).digest().ljust(REPORT_DATA_BYTES, b"\x00")


def log_origin(name: str, bootseed: bytes) -> str:
    """Return the origin of a boot's log: `<name>/<first 16 hex digits of the bootseed>`.

    Raises `MalformedError` for a name that a verifier key or a checkpoint could not carry.
    """
    if not LOG_NAME.fullmatch(name):
        raise MalformedError(
            "the name cannot be that of a log",
            code="log_name",
            expected="1 to 48 characters of A-Z a-z 0-9 . _ : / @ -",
        )
    return f"{name}/{bootseed.hex()[:16]}"


def read_bootseed(members: Members) -> bytes:
    """Return the member `bootseed`, 64 hexadecimal digits, as 32 bytes."""
    return bytes.fromhex(members.text("bootseed", pattern=_BOOTSEED))


def digest_or_null(members: Members, name: str) -> Digest | None:
    """Return a digest that may be null."""
    return None if members.is_null(name) else members.digest_hex(name)


def hex_or_null(digest: Digest | None) -> str | None:
    """Return the statement form of a digest that may be absent."""
    return None if digest is None else digest.hex
