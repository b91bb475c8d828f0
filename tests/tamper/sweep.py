"""All changes there are, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from attestation.result import Verdict
from tests.tamper import bits, members, swaps
from tests.tamper.cases import Case
from tests.tamper.folder import AuditFolder, judge

REFUSED = frozenset(
    verdict.exit_code for verdict in (Verdict.REJECTED, Verdict.INCOMPLETE, Verdict.MALFORMED)
)
"""What a change may end in: never accepted, never "genuine but unwanted", never an exception."""

KEPT = 40
Family = Callable[[], Iterator[Case]]


@dataclass(slots=True)
class Tally:
    """How many cases of a kind ended in which exit code, and those that must not have."""

    codes: dict[str, Counter[int]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    escaped: int = 0

    def add(self, case: Case, code: int) -> None:
        """Write down one verdict."""
        self.codes.setdefault(case.kind, Counter())[code] += 1
        if code not in REFUSED:
            self.escaped += 1
            if len(self.violations) < KEPT:
                self.violations.append(f"exit {code}: {case.kind}: {case.where}")

    def merge(self, other: Tally) -> None:
        """Add what another worker counted."""
        for kind, codes in other.codes.items():
            self.codes.setdefault(kind, Counter()).update(codes)
        self.escaped += other.escaped
        self.violations += other.violations

    @property
    def cases(self) -> int:
        """How many changes were judged."""
        return sum(codes.total() for codes in self.codes.values())


def families(
    folder: AuditFolder, others: Mapping[str, AuditFolder], *, everywhere: bool
) -> dict[str, Family]:
    """Return every family of changes by name; `everywhere` flips every bit of every byte."""
    return {
        "file-bits": lambda: bits.file_bits(folder, everywhere=everywhere),
        "file-lengths": lambda: bits.file_lengths(folder),
        "body-bits": lambda: bits.body_bits(folder),
        "body-lengths": lambda: bits.body_lengths(folder),
        "token-bits": lambda: bits.token_bits(folder),
        "token-lengths": lambda: bits.token_lengths(folder),
        "leaf-bits": lambda: bits.leaf_bits(folder, everywhere=everywhere),
        "members": lambda: members.members(folder),
        "items": lambda: members.items(folder),
        "claims": lambda: members.claims(folder),
        "receipt-swaps": lambda: swaps.between_receipts(folder),
        "epoch-swaps": lambda: swaps.between_epochs(folder),
        "bundle-swaps": lambda: chain.from_iterable(
            swaps.between_bundles(folder, other) for other in others.values()
        ),
    }


def run(
    cases: Iterable[Case],
    *,
    stride: int = 1,
    first: int = 0,
    judge: Callable[[AuditFolder], int] = judge,
) -> Tally:
    """Judge every `stride`-th case, beginning with number `first`, where there is a change."""
    tally = Tally()
    for number, case in enumerate(cases):
        if number % stride != first:
            continue
        changed = case.build()
        if changed is not None:
            tally.add(case, judge(changed))
    return tally
