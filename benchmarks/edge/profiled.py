"""A process of the gateway that can say where its time goes; `--profile` starts it this way.

    python -m benchmarks.edge.profiled gateway.processes.worker worker 7

SIGUSR1 starts counting anew, SIGUSR2 writes what was counted to `$BENCH_SAMPLES/<name>.json`:
samples by innermost function and by every function on the stack, of the main thread.  One is
taken whenever a tick of the kernel finds the process at work; of another thread's work it shows
what the main thread was at.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path, PurePath
from types import FrameType

from benchmarks.sampling import Sampler

_PACKAGES = ("gateway", "attestation")
_LOOP = "event loop"


class StackSampler(Sampler):
    """Counts every function on the stack once as well."""

    def __init__(self) -> None:
        super().__init__(active=True)
        self._stacks: Counter[str] = Counter()
        self._modules: Counter[str] = Counter()

    def begin(self) -> None:
        """Forget what was counted."""
        self.take()
        self._stacks, self._modules = Counter(), Counter()  # exchanged, not cleared: see `take`

    def document(self) -> dict[str, object]:
        """Return what was counted: total, innermost, anywhere on the stack, and by the innermost
        module of the product, which library code that it calls counts for.
        """
        stacks, modules = self._stacks, self._modules
        self._stacks, self._modules = Counter(), Counter()
        inner = self.take()
        return {
            "samples": inner.total(),
            "innermost": dict(inner.most_common(60)),
            "anywhere": dict(stacks.most_common(80)),
            "modules": dict(modules),
        }

    def _count(self, _signal: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        self._samples[_name(frame)] += 1
        seen, module = set(), ""
        at: FrameType | None = frame
        while at is not None:
            seen.add(_name(at))
            module = module or _module(at)
            at = at.f_back
        self._modules[module or _LOOP] += 1
        self._stacks.update(seen)


def _module(frame: FrameType) -> str:
    """Return the product's module that a frame belongs to; nothing for the program's own start."""
    name = str(frame.f_globals.get("__name__", ""))
    product = name.startswith(_PACKAGES) and not name.startswith("gateway.processes")
    return name if product else ""


def _name(frame: FrameType) -> str:
    code = frame.f_code
    if code.co_filename == "<string>":  # what dataclasses generate
        return f"{type(frame.f_locals.get('self')).__name__}.{code.co_name}"
    path = PurePath(code.co_filename)
    folders = [part for part in path.parts[-4:-1] if part.isidentifier()]
    for package in _PACKAGES:
        if package in folders:
            folders = folders[folders.index(package) + 1 :]
    return ".".join((*folders[-2:], path.stem, code.co_qualname))


def main() -> None:
    """Run the module that the first argument names, as its own program, under the sampler."""
    module, name = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    sampler = StackSampler()
    out = Path(os.environ["BENCH_SAMPLES"], f"{name}.json")

    def begin(_signal: int, _frame: FrameType | None) -> None:
        sampler.begin()

    def write(_signal: int, _frame: FrameType | None) -> None:
        part = out.with_suffix(".part")
        part.write_text(json.dumps(sampler.document()), encoding="utf-8")
        part.rename(out)

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, write)
    with sampler:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
