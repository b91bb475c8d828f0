"""Which receipt a repeated request repeats: the attempt before, as far as this boot remembers it.

SDKs send a request again that failed, byte for byte, and say so in a header.  The header is the
caller's word and says nothing of which one; the notary has the digests of the bodies.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from attestation.encoding.digest import Digest
from attestation.receipt.claims import End

if TYPE_CHECKING:
    from attestation.receipt.outcome import Outcome

CAPACITY: Final = 65_536
_NAME_BYTES: Final = 16
_ERRORS: Final = 400
_SERVER_ERRORS: Final = 500
_REPEATED_ERRORS: Final = frozenset({408, 409, 429})
"""What the SDKs of OpenAI and Anthropic repeat below 500; other 4xx would only fail again."""


class _Attempt(NamedTuple):
    """The latest attempt at one request: its admission number and the digest of its receipt."""

    admission: int
    receipt: bytes


class Repeats:
    """The latest attempts that may be repeated, each until one request was linked to it.

    What is kept is bounded: beyond `capacity` the oldest attempts are forgotten, and a request
    that repeats one of them is not linked.  An entry takes 300 bytes (20 MB when full):
    a keyed hash of caller, path and body, an admission number, a receipt digest.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._names = hashlib.blake2b(digest_size=_NAME_BYTES, key=secrets.token_bytes(32))
        # Not a dict: finding its oldest entry walks over all that were deleted before it.
        self._attempts: OrderedDict[bytes, _Attempt] = OrderedDict()

    def __len__(self) -> int:
        """How many attempts are remembered."""
        return len(self._attempts)

    def repeated_by(self, outcome: Outcome, admission: int) -> Digest | None:
        """Return the receipt of the attempt that this request repeats, None if none is known.

        That is the newest one of the same caller, path and body, if it was admitted earlier; and
        only for what is called a repeat, because two equal requests need not be attempts at one.
        """
        name = self._name(outcome) if outcome.lineage.repeated else None
        attempt = None if name is None else self._attempts.get(name)
        if attempt is None or attempt.admission >= admission:
            return None
        return Digest(attempt.receipt)

    def note(self, outcome: Outcome, admission: int, receipt: Digest, *, linked: bool) -> None:
        """Take a receipt that has its index; `linked` says that it names the attempt before."""
        repeatable = may_be_repeated(outcome)
        name = self._name(outcome) if linked or repeatable else None
        if name is None:
            return
        # Repeated once, an attempt is done with: attempts at one request make a chain.
        self._attempts.pop(name, None)
        if not repeatable:
            return
        if len(self._attempts) >= self._capacity:
            self._attempts.popitem(last=False)
        self._attempts[name] = _Attempt(admission, receipt.value)

    def _name(self, outcome: Outcome) -> bytes | None:
        request = outcome.request
        if request is None or outcome.request_partial:
            return None  # of half a body nobody can say that it came again
        # 32 and 32 bytes before the last: what is hashed can be read in one way only.
        name = self._names.copy()
        name.update(outcome.sub.value + request.digest.value + outcome.path.encode("ascii"))
        return name.digest()


def may_be_repeated(outcome: Outcome) -> bool:
    """Whether an SDK would send this request again, by what the caller saw of it.

    No head of an answer; 408, 409, 429 and 500 or more; and a stream that was cut after its 200.
    Not the other errors, and not a whole answer: it was delivered, as far as a gateway can know.
    """
    status = outcome.status
    if status is None or status >= _SERVER_ERRORS or status in _REPEATED_ERRORS:
        return True
    return outcome.end is not End.COMPLETE and status < _ERRORS
