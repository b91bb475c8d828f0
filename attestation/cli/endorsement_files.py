"""Endorsements on disk: single files, bundles, and stores (folders of `<digest>.json`)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from attestation.bundle import parse_evidence
from attestation.cli.files import (
    is_folder,
    list_folder,
    load_collateral,
    load_parsed,
    parse_endorsement_file,
    require_regular,
)
from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import EvidenceError, MalformedError, UsageError
from attestation.tdx.endorsement_store import digest_in, parse_stored
from attestation.tdx.endorsements import in_order, parse_endorsements, verify_own_root

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from attestation.bundle import Bundle
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.endorsements import Endorsements

_NAMED = 3
_PROBE = JsonLimits(max_bytes=64 << 20, max_depth=24, max_members=4_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What the files and stores that a caller named hold, read once: a group for each name."""

    groups: tuple[tuple[Endorsements, ...] | Collateral, ...] = ()

    def at(self, at: int) -> list[Collateral]:
        """Return the sets in the order of preference.

        What is named first comes first; of a store, what is in date at `at`, then what is newest.
        """
        found: list[Collateral] = []
        for group in self.groups:
            if isinstance(group, tuple):
                found += [one.collateral for one in in_order(group, at)]
            else:
                found.append(group)
        return found


def load_sets(names: Sequence[str], at: int, anchors: Iterable[Anchor]) -> list[Collateral]:
    """Return the endorsements in files and stores, in the order of preference at `at`.

    Raises as `load_offered`.
    """
    return load_offered(names, anchors).at(at)


def load_offered(names: Sequence[str], anchors: Iterable[Anchor]) -> Offered:
    """Return the endorsements in files and stores; of a store, those under one of `anchors`.

    A store offers what is newest by what sets say of themselves, and anybody can sign a set with
    a high number under a root of their own.  What is passed over is said on stderr.  A file is
    taken as it is: it was meant.  Raises `UsageError` for what cannot be read and for a folder
    without a set, `MalformedError` for what does not parse, and for a set of a store that nobody
    signed.
    """
    roots = {anchor.name for anchor in anchors}
    return Offered(
        groups=tuple(
            _under(roots, name) if is_folder(name) else load_collateral(name) for name in names
        )
    )


def _under(roots: Collection[str], folder: str) -> tuple[Endorsements, ...]:
    signed = [
        (one, _signer(one, folder)) for one in require_some(load_store(folder), ascii(folder))
    ]
    taken = tuple(one for one, root in signed if root.name in roots)
    if others := [one.collateral.digest.hex for one, root in signed if root.name not in roots]:
        left = f"{len(taken)} left" if taken else "none left: the evidence's own are judged by"
        print(
            f"attested: {folder!a}: passed over under other roots than "
            f"{', '.join(sorted(roots))}: {', '.join(others[:_NAMED])}"
            f"{f' and {len(others) - _NAMED} more' if len(others) > _NAMED else ''}; {left}",
            file=sys.stderr,
        )
    return taken


def _signer(one: Endorsements, folder: str) -> Anchor:
    """Return the root of a set of a store, or raise `MalformedError` if nobody signed it.

    An altered set would be taken before a good one, and the evidence refused for it.
    """
    try:
        return verify_own_root(one)
    except (EvidenceError, MalformedError) as error:
        raise MalformedError(
            f"{folder!a} holds a set of endorsements that is not signed by its own root",
            code="collateral_signature",
            expected="sets as they were fetched",
            observed=f"{one.collateral.digest.hex}.json",
            hint="delete it and fetch again; `attested endorsements status --store` shows it",
        ) from error


def load_store(name: str) -> list[Endorsements]:
    """Return every set of a store, in the order of digests; other files there are left alone.

    Raises `UsageError` for a folder that cannot be read, `MalformedError` for a set that does
    not stand under its own digest.
    """
    sets = []
    for path in list_folder(name):
        if (digest := digest_in(path.name)) is not None:
            require_regular(path)
            sets.append(load_parsed(str(path), partial(parse_stored, digest=digest)))
    return sets


def load_any(name: str) -> list[Endorsements]:
    """Return the set in a file, or every set in a bundle, in a gateway's answer or in a store."""
    return load_store(name) if is_folder(name) else load_parsed(name, _parse_any)


def _parse_any(data: bytes) -> list[Endorsements]:
    if "tcb_info" in parse_json_object(data, _PROBE):
        return [parse_endorsements(parse_endorsement_file(data))]
    bundle: Bundle = parse_evidence(data)
    return [parse_endorsements(one) for one in bundle.collateral.values()]


def require_some(sets: list[Endorsements], where: str) -> list[Endorsements]:
    """Refuse to go on with nothing (`UsageError`)."""
    if not sets:
        raise UsageError(
            f"no endorsements in {where}",
            code="no_endorsements",
            expected="files named <digest>.json in a store, or sets inside a bundle",
            hint="`attested endorsements fetch` fills a store",
        )
    return sets
