"""Earlier boots: surveyed at the start, read further in the background, kept as long as set."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError
from gateway.notary.log.examination import Depth
from gateway.notary.log.index import leaves_seen
from gateway.notary.log.retention import DAY_SECONDS, retire
from gateway.notary.log.survey import Survey, examine, survey
from gateway.notary.log.walk import BootStatus
from gateway.notary.quotes.quoter import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gateway.notary.files import FileLayer
    from gateway.notary.log.examination import SurveyedBoot
    from gateway.notary.log.index import ReceiptIndex
    from gateway.notary.log.store import LogStore
    from gateway.notary.parts import NotaryParts


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was in the data folder when the boot started, and what an index knew of it."""

    survey: Survey
    leaves_seen: Mapping[str, int]

    @property
    def follows(self) -> tuple[str, ...]:
        """The folder of the boot that this one names as `prev`, if there is one."""
        before = self.survey.predecessor
        return () if before is None else (before.name,)


def load_history(layer: FileLayer, data_dir: Path, index_path: Path) -> History:
    """Survey the data folder: evidence, headers and tails only.  Blocks.

    Raises `UnavailableError` if the folder cannot be listed.
    """
    seen = leaves_seen(index_path)
    try:
        return History(survey=survey(layer, data_dir, leaves_seen=seen), leaves_seen=seen)
    except OSError as error:
        raise UnavailableError(
            f"the data folder {data_dir} cannot be surveyed",
            code="data_dir",
            observed=error.strerror or "an I/O error",
            hint="check notary.data_dir",
        ) from error


class Caretaker:
    """Reports on earlier boots and deletes what was kept long enough; changes nothing else."""

    def __init__(
        self,
        parts: NotaryParts,
        history: History,
        store: LogStore,
        index: ReceiptIndex,
        exported: Callable[[], int],
    ) -> None:
        self._parts = parts
        self._history = history
        self._store = store
        self._index = index
        self._exported = exported
        self._statuses = {name: boot.status for name, boot in history.survey.boots.items()}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Report the survey; read more in the background, and clear up daily."""
        found = self._history.survey
        before = found.predecessor
        for boot in found.boots.values():
            if boot.status not in (BootStatus.WHOLE, BootStatus.UNBORN) or boot is before:
                self._report(boot)
        for fork in found.forks:
            self._parts.emit("boot.fork", after=fork.after or "none", boots=len(fork.boots))
        if found.strangers or found.other_layout:
            self._parts.emit(
                "data.unknown", names=len(found.strangers), other_layout=len(found.other_layout)
            )
        self._count()
        self._tasks = [
            asyncio.create_task(self._clear_daily()),
            asyncio.create_task(self._read_on()),
        ]

    def close(self) -> None:
        """Start nothing more; what a thread reads or deletes just now it does to its end."""
        for task in self._tasks:
            task.cancel()

    async def _read_on(self) -> None:
        """Read the boot before this one whole, then the ends of those that the start left out.

        The other boots are not read whole: with a long history that would take hours, beside
        the requests.  `attested log verify` does it.
        """
        found = self._history.survey
        if found.predecessor is not None:
            await self._examine(found.predecessor, Depth.WHOLE)
        for boot in found.boots.values():
            if boot.depth is Depth.EVIDENCE:
                await self._examine(boot, Depth.TAIL)

    async def _examine(self, boot: SurveyedBoot, depth: Depth) -> None:
        parts, history = self._parts, self._history
        try:
            known = await in_thread(
                lambda: examine(
                    parts.layer,
                    parts.data_dir,
                    boot.name,
                    history.survey,
                    leaves_seen=history.leaves_seen,
                    depth=depth,
                )
            )
        except Exception:  # noqa: BLE001 - whatever it was, the other boots are read all the same
            parts.emit("boot.unread", boot=boot.name)
            return
        if depth is Depth.WHOLE or known.status is not boot.status:
            self._report(known)
        self._statuses[boot.name] = known.status
        self._count()

    async def _clear_daily(self) -> None:
        while True:
            before = self._parts.clock.wall() - self._parts.limits.retain_days * DAY_SECONDS
            await self._clear(before)
            await self._parts.clock.sleep(DAY_SECONDS)

    async def _clear(self, before: float) -> None:
        parts = self._parts
        try:
            boots, segments = await in_thread(
                lambda: retire(
                    parts.layer,
                    parts.data_dir,
                    before=before,
                    store=self._store,
                    covered=self._exported(),
                    index=self._index,
                    follows=self._history.follows,
                )
            )
        except Exception as error:  # noqa: BLE001 - it is told, and tried again tomorrow
            parts.emit("log.retention_failed", reason=_reason(error))
            return
        if boots or segments:
            parts.emit("log.retired", boots=len(boots), segments=len(segments))

    def _report(self, boot: SurveyedBoot) -> None:
        self._parts.emit(
            "boot.surveyed", boot=boot.name, status=str(boot.status), depth=str(boot.depth)
        )

    def _count(self) -> None:
        counted = Counter(self._statuses.values())
        self._parts.metrics.surveyed({str(status): counted[status] for status in BootStatus})


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno or 0, "EIO").lower()
    return "internal"
