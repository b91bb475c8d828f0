"""Starting the notary of `benchmarks.notary`, and asking it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READY_SECONDS = 120.0
_STOP_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotaryProcess:
    """A running child: its socket, how long it took to be ready, its boot included."""

    process: asyncio.subprocess.Process
    socket: Path
    ready_seconds: float

    async def ask(self, what: str) -> dict[str, Any]:
        """Send one command and return its answer."""
        _stdin(self.process).write(json.dumps({"do": what}).encode() + b"\n")
        return await _answer(self.process, _STOP_SECONDS)


@asynccontextmanager
async def notary_process(
    folder: Path, *, syncs: float | None = None, profile: bool = False
) -> AsyncIterator[NotaryProcess]:
    """Run a notary over `folder`/data until the block ends, then have it end its boot.

    The path is absolute: the child starts elsewhere.
    """
    socket = folder / "run" / "notary.sock"
    arguments = ["--socket", str(socket), "--data", str(folder / "data")]
    if syncs is not None:
        arguments += ["--syncs", str(syncs)]
    if profile:
        arguments.append("--profile")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.notary", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        ready = await _answer(process, _READY_SECONDS)
        child = NotaryProcess(process=process, socket=socket, ready_seconds=ready["ready"])
        yield child
        await child.ask("stop")
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answer(process: asyncio.subprocess.Process, seconds: float) -> dict[str, Any]:
    if process.stdout is None:
        raise RuntimeError("the notary was started without a pipe")
    line = await asyncio.wait_for(process.stdout.readline(), seconds)
    if not line:
        raise RuntimeError("the notary ended; its message stands above")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _stdin(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    """Return the pipe to the child."""
    if process.stdin is None:
        raise RuntimeError("the notary was started without a pipe")
    return process.stdin
