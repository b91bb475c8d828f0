"""What a store of endorsements is: a folder of sets, each in a file that is named by its digest.

    <digest>.json    the nine fields as `encode_dcap_collateral` writes them, and nothing else

Whoever reads a folder brings the bytes; what counts as a set, and whether a file is the one that
its name says, is decided here for verifiers and gateways alike.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.tdx.collateral import parse_dcap_collateral
from attestation.tdx.endorsements import parse_endorsements

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from attestation.tdx.endorsements import Endorsements

MAX_STORED_BYTES = 2 << 20
_STORED = re.compile(r"([0-9a-f]{64})\.json", re.ASCII)


def stored_name(digest: Digest) -> str:
    """Return the name of the file that holds the set with this digest."""
    return f"{digest.hex}.json"


def digest_in(name: str) -> str | None:
    """Return the digest (64 hexadecimal digits) in a file's name, None for other files."""
    match = _STORED.fullmatch(name)
    return match[1] if match else None


def parse_stored(data: bytes, digest: str) -> Endorsements:
    """Return the set in the file of this digest, and what it says of itself.

    That anybody signed it is not looked at.  Raises `MalformedError`, with code
    "collateral_digest" for another set than the name says.
    """
    one = parse_endorsements(parse_dcap_collateral(data))
    if one.collateral.digest.hex != digest:
        raise MalformedError(
            "the file holds another set of endorsements than its name says",
            code="collateral_digest",
            expected=f"the set with digest {digest}",
            observed=one.collateral.digest.hex,
            hint="delete it and fetch again",
        )
    return one
