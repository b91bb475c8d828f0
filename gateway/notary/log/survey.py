"""What earlier boots left in the data folder, told apart, and which of them comes before us.

    whole      every record is there
    torn       the last batch is incomplete: what a crash leaves; nothing of it was released
    damaged    a record, its order, or the root of the tree is not what was written
    shortened  leaves are missing that a checkpoint or a successor vouches for: cut or rolled back
    foreign    files of another boot or under another name, unsigned ones, unknown names
    unborn     no signed checkpoint: it never served

Nothing here writes.  At a start only evidence, headers and tails are read; `examine` reads one
boot's folder whole and recomputes its tree.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.statement import PreviousBoot
from gateway.notary.log.catchup import boot_names
from gateway.notary.log.evidence import predecessor_of
from gateway.notary.log.examination import Depth, Examination
from gateway.notary.log.folder import EXPIRED, INDEX_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.notary.files import FileLayer
    from gateway.notary.log.examination import SurveyedBoot

_OTHER_LAYOUT = re.compile(r"[0-9a-f]{16}\.(?:journal|boot\.json|root\.pem)", re.ASCII)
# What `gateway.access.budgets` keeps here beside the log.
_BUDGETS = r"budgets\.json(?:\.lock)?|\.budgets\.json\.[0-9a-f]{16}"
_KNOWN = re.compile(
    rf"{_OTHER_LAYOUT.pattern}|{re.escape(INDEX_FILE)}(?:-wal|-shm|-journal)?|{EXPIRED.pattern}"
    rf"|{_BUDGETS}",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Several boots that say they follow the boot `after`; with None, several that none follows.

    The second means that the chain has more than one end.
    """

    after: str | None
    boots: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The boot folders with their statuses, other names (`other_layout`: an older version's),
    the boot that the next one follows, and forks of the chain of boots.
    """

    boots: Mapping[str, SurveyedBoot] = field(default_factory=dict)
    other_layout: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    predecessor: SurveyedBoot | None = None
    forks: tuple[Fork, ...] = ()

    @property
    def prev(self) -> PreviousBoot | None:
        """What the statement of the next boot says of the one before it."""
        return None if self.predecessor is None else self.predecessor.previous


def survey(
    layer: FileLayer,
    data_dir: Path,
    *,
    leaves_seen: Mapping[str, int] | None = None,
    known_names: Collection[str] = (),
) -> Survey:
    """Return what is in the data folder, from evidence, headers and the tails that matter.

    1. every boot folder's evidence, names and headers
    2. which boots have a signed checkpoint: the others never served and name nobody
    3. the heads: boots that no other names as `prev`; their last segment is read
    4. the newest head by (time_claimed, bootseed) with a genuine checkpoint is the predecessor

    `leaves_seen` are how many leaves an index has seen, by folder; `known_names` other names that
    belong in the data folder.  Raises OSError if the data folder cannot be listed, or if the disk
    fails under a boot that may be the predecessor: a chain is not begun anew by a bad read.
    """
    seen = leaves_seen or {}
    names = boot_names(layer, data_dir)
    boots = {name: Examination(layer, data_dir / name, seen.get(name, 0)) for name in names}
    for boot in boots.values():
        if not boot.is_born:
            boot.read_tail()
    claims = _claims(boots)
    for name, claimants in claims.items():
        for _, previous in claimants:
            if name in boots:
                boots[name].claim(previous)
    heads = [name for name, boot in boots.items() if boot.is_born and name not in claims]
    for name in heads:
        boots[name].read_tail()
    for name, boot in boots.items():
        if boot.trouble is not None and name not in claims:
            raise boot.trouble
    results = {name: boot.result() for name, boot in boots.items()}
    heads = [name for name in heads if boots[name].is_born and results[name].previous is not None]
    other = [name for name in layer.list_folder(data_dir) if name not in {*names, *known_names}]
    return Survey(
        boots=results,
        other_layout=tuple(sorted(filter(_OTHER_LAYOUT.fullmatch, other))),
        strangers=tuple(sorted(name for name in other if not _KNOWN.fullmatch(name))),
        predecessor=max((results[name] for name in heads), key=_age_order, default=None),
        forks=_forks(claims, heads),
    )


def examine(
    layer: FileLayer,
    data_dir: Path,
    name: str,
    known: Survey,
    *,
    leaves_seen: Mapping[str, int] | None = None,
    depth: Depth = Depth.WHOLE,
) -> SurveyedBoot:
    """Return what one boot's folder is, read whole: every record, every checkpoint, the tree.

    Takes time in proportion to the log (about 10 s for a million receipts).  With `Depth.TAIL`
    only the end is read: enough to see that leaves are missing.
    """
    boot = Examination(layer, data_dir / name, (leaves_seen or {}).get(name, 0))
    for other in known.boots.values():
        if other.evidence is None or other.checkpoint is None:
            continue
        claim = predecessor_of(other.evidence)
        if claim is not None and claim[0] == name:
            boot.claim(claim[1])
    if depth is Depth.WHOLE:
        boot.read_whole()
    else:
        boot.read_tail()
    return boot.result()


def _claims(boots: Mapping[str, Examination]) -> dict[str, list[tuple[str, PreviousBoot]]]:
    """Return by boot who says that it comes after it, and what is said."""
    claims: dict[str, list[tuple[str, PreviousBoot]]] = defaultdict(list)
    for name, boot in boots.items():
        claim = predecessor_of(boot.evidence) if boot.is_born and boot.evidence else None
        if claim is not None:
            claims[claim[0]].append((name, claim[1]))
    return dict(claims)


def _forks(
    claims: Mapping[str, list[tuple[str, PreviousBoot]]], heads: Sequence[str]
) -> tuple[Fork, ...]:
    """Return the boots that more than one follows, then the heads if there are several."""
    forks = [
        Fork(after=name, boots=tuple(sorted(claimant for claimant, _ in claimants)))
        for name, claimants in sorted(claims.items())
        if len(claimants) > 1
    ]
    if len(heads) > 1:
        forks.append(Fork(after=None, boots=tuple(sorted(heads))))
    return tuple(forks)


def _age_order(boot: SurveyedBoot) -> tuple[int, bytes]:
    return boot.evidence.age_order if boot.evidence is not None else (0, b"")
