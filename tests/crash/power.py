"""The power goes at every moment of a recorded life, in every way: is every promise kept?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.crash.outside import Boot, Violation, read_boot
from tests.crash.promises import Outsider, Said, folders_of, said_by
from tests.crash.states import Image, Mood, state
from tests.crash.trace import Medium, Op, moments

_ROUNDS = 8
_IDLE = 12
_MOODS = tuple(Mood)
_FIRST = (Mood.NOTHING, Mood.EVERYTHING, Mood.NAMES_ONLY, Mood.DATA_ONLY)

Further = Callable[[Image, dict[str, Said], dict[str, Boot | None]], None]


@dataclass(slots=True, kw_only=True)
class Found:
    """What a search saw: distinct states, and the first states that broke each rule."""

    moments: int = 0
    states: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def broke(self, violation: Violation, moment: int) -> None:
        self.broken[violation.rule] += 1
        self.examples.setdefault(violation.rule, f"after operation {moment}: {violation}")


@dataclass(slots=True, kw_only=True)
class Search:
    """Judges at least `states` distinct states spread over all moments of a trace.

    `final` is the disk as the program saw it last: it holds the whole truth of every log.
    `further` is asked about every distinct state too (a survey, a restart).  Two states are
    distinct if the disk differs, or what had been promised by then.  The first `begun` operations
    only lay out the disk; `promised` was promised before the trace.
    """

    trace: list[Op]
    final: Image
    seed: int
    states: int
    further: Further | None = None
    begun: int = 0
    promised: dict[str, Said] = field(default_factory=dict)
    _seen: set[tuple[int, int]] = field(default_factory=set)
    _found: Found = field(default_factory=Found)

    def run(self) -> Found:
        """Search; the result names every rule that was broken."""
        outsider = Outsider(truth=truth_of(self.final))
        rng = random.Random(self.seed)  # noqa: S311 - a repeatable search, no secret
        risky = sum(1 for medium in moments(self.trace) if medium.in_flight)
        quota = self.states // max(risky, 1) + 1
        for _ in range(_ROUNDS):
            self._found.moments = 0
            for number, medium in enumerate(moments(self.trace)):
                if number < self.begun:
                    continue
                self._found.moments += 1
                said = {**self.promised, **said_by(medium.notes)}
                for image in self._fresh(medium, rng, quota):
                    self._judge(outsider, image, said, number)
            if self._found.states >= self.states:
                break
        return self._found

    def _fresh(self, medium: Medium, rng: random.Random, quota: int) -> Iterator[Image]:
        """Draw states that were not seen before; where nothing is in flight there is one."""
        new = idle = number = 0
        while new < quota and idle < (_IDLE if medium.in_flight else 1):
            mood = _FIRST[number] if number < len(_FIRST) else rng.choice(_MOODS)
            image = state(medium, rng, mood)
            number += 1
            idle += 1
            key = (image.key, len(medium.notes))
            if key not in self._seen:
                self._seen.add(key)
                self._found.states += 1
                new, idle = new + 1, 0
                yield image

    def _judge(self, outsider: Outsider, image: Image, said: dict[str, Said], moment: int) -> None:
        try:
            read = outsider.judge(image, said)
            if self.further is not None:
                self.further(image, said, read)
        except Violation as violation:
            self._found.broke(violation, moment)


def truth_of(final: Image) -> dict[str, list[bytes]]:
    """The entries of every log, as the program had written them in the end."""
    truth: dict[str, list[bytes]] = {}
    for folder, files in folders_of(final).items():
        boot = read_boot(files)
        truth[folder] = boot.entries if boot is not None else []
    return truth
