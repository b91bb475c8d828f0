"""Telling who sends a request: by the keys file, which may change meanwhile, or by a token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.errors import AttestationError
from gateway.access.issuers import Denial, TokenVerifier
from gateway.access.keyfile import KeyRecord, load_keys
from gateway.access.principal import SUBJECT_LABEL, Principal
from gateway.access.quota_table import QuotaTable
from gateway.access.quotas import SECOND, Quotas
from gateway.access.slots import Slots

if TYPE_CHECKING:
    from gateway.access.issuers import Issuer, Rule

_LOOK_EVERY_SECONDS = 0.5
_MAX_KEY_BYTES = 256
_DOT = b"."
_DOTS_OF_A_TOKEN = 2
_BEARER = b"bearer "
_Stamp = tuple[int, int, int, int]
_Records = dict[bytes, tuple[KeyRecord, Principal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Both clocks, as parameters: wall seconds for expiry, monotonic ones for reloading."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]


class KeyStore:
    """The keys of one file, and the tokens of the issuers that are let in beside it.

    A change of the file counts at most half a second later, for the next request.  While the
    file cannot be read or does not parse nobody is let in: an old copy could keep alive what
    an operator has just revoked.  Tokens have nothing to do with the file.

    `slots` counts running requests, `quotas` what is used; `share` makes the latter, and the
    clock, those of all workers.
    """

    def __init__(
        self,
        path: Path,
        clocks: Clocks,
        *,
        issuers: tuple[Issuer, ...] = (),
        rules: tuple[Rule, ...] = (),
    ) -> None:
        """Read the file; raises as `load_keys` does, so that a start with a bad file fails."""
        self._path = path
        self._clocks = clocks
        self._stamp = _stamp(path)
        self._records = _by_subject(load_keys(path))
        self._looked = clocks.monotonic()
        self._reason = ""
        self.slots = Slots()
        self.table = QuotaTable.alone()
        self.quotas = self._quotas()
        self._tokens = TokenVerifier(issuers, rules, self.now) if issuers else None

    def share(self, table: QuotaTable) -> None:
        """Use the table of all workers instead of one's own."""
        self.table = table
        self.quotas = self._quotas()

    def now(self) -> int:
        """The latest Unix second that any worker has seen.

        A guest's clock is its host's to set: what has expired stays so when it is set back.
        """
        return self.table.latest(int(self._clocks.wall()))

    @property
    def healthy(self) -> bool:
        """Whether the file can be used; looks at it if that was not done just now."""
        self._look()
        return not self._reason

    @property
    def reason(self) -> str:
        """A stable code for why the file cannot be used; empty while it can."""
        return self._reason

    def authenticate(self, headers: list[tuple[bytes, bytes]]) -> Principal | None:
        """Return the caller whose key or token the headers carry, or None; see `identify`."""
        found = self.identify(headers)
        return found if isinstance(found, Principal) else None

    def identify(self, headers: list[tuple[bytes, bytes]]) -> Principal | Denial:
        """Return the caller whose key or token the headers carry, or why it is nobody.

        It stands in `Authorization: Bearer` or in `x-api-key`.  What has two dots is a token,
        because no key has one; its form is the sender's own choice and tells nothing.  Two
        different ones, a repeated header, an unknown, expired or revoked key are all
        `Denial.NO_KEY`.
        """
        self._look()
        shown = _presented(headers)
        if shown is None:
            return Denial.NO_KEY
        if self._tokens is not None and shown.count(_DOT) == _DOTS_OF_A_TOKEN:
            return self._tokens.identify(shown)
        return (self._by_key(shown) if len(shown) <= _MAX_KEY_BYTES else None) or Denial.NO_KEY

    def again(self, principal: Principal) -> Principal | None:
        """Return the caller whose key was just shown once more, None for who has no key here.

        `principal` is what `identify` returned for the very same headers.
        """
        self._look()
        return self._by_subject(principal.sub.value)

    def _by_key(self, key: bytes) -> Principal | None:
        return self._by_subject(hashlib.sha256(SUBJECT_LABEL + key).digest())

    def _by_subject(self, sub: bytes) -> Principal | None:
        # The table is indexed by SHA-256 of the key.  What time the look-up takes can tell at
        # most something of that digest, which the caller computed itself and from which no key
        # that has it can be made; compare_digest then decides without early exit.
        found = self._records.get(sub)
        if found is None or not hmac.compare_digest(found[1].sub.value, sub):
            return None
        record, principal = found
        if record.revoked is not None or self._expired(record):
            return None
        return principal

    def _expired(self, record: KeyRecord) -> bool:
        expires = record.grant.expires
        return expires is not None and self.now() >= expires

    def _quotas(self) -> Quotas:
        clocks = self._clocks
        return Quotas(
            self.table,
            monotonic=lambda: int(clocks.monotonic() * SECOND),
            wall=clocks.wall,
        )

    def _look(self) -> None:
        now = self._clocks.monotonic()
        if now - self._looked < _LOOK_EVERY_SECONDS:
            return
        self._looked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp and stamp is not None:
            return
        try:
            self._records, self._reason = _by_subject(load_keys(self._path)), ""
        except AttestationError:
            self._records, self._reason = {}, "keys_file"
        self._stamp = stamp


def _by_subject(records: tuple[KeyRecord, ...]) -> _Records:
    return {
        record.sub.value: (
            record,
            Principal(sub=record.sub, grant=record.grant, label=record.label),
        )
        for record in records
    }


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _presented(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    key = bearer = None
    for name, value in headers:
        if name == b"authorization":
            if bearer is not None or value[: len(_BEARER)].lower() != _BEARER:
                return None
            bearer = value[len(_BEARER) :].strip(b" ")
        elif name == b"x-api-key":
            if key is not None:
                return None
            key = value
    if key is None or bearer is None:
        return key or bearer or None
    # Clients of both dialects send one header each; the same key in both is no contradiction.
    return key or None if hmac.compare_digest(key, bearer) else None
