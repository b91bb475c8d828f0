"""A sampling profiler: where the processor's time goes, without slowing what it watches.

Every millisecond of processor time the innermost Python function is counted; what C code does
counts for the function that called it.
"""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import Self

_PERIOD = 0.001


class Sampler:
    """Counts "module.function" from entering to leaving; if `active`."""

    def __init__(self, *, active: bool) -> None:
        self._samples: Counter[str] = Counter()
        self._active = active

    def take(self) -> Counter[str]:
        """Return what was counted since the last call.  A signal may interrupt anything, so the
        counter is exchanged first and read only when nothing is counted into it any more.
        """
        taken, self._samples = self._samples, Counter()
        return taken

    def __enter__(self) -> Self:
        if self._active:
            signal.signal(signal.SIGPROF, self._count)
            signal.setitimer(signal.ITIMER_PROF, _PERIOD, _PERIOD)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._active:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _count(self, _signal: int, frame: FrameType | None) -> None:
        if frame is not None:
            code = frame.f_code
            self._samples[f"{PurePath(code.co_filename).stem}.{code.co_qualname}"] += 1
