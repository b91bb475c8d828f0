"""The runner's side of a worker process."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

from attestation.conformance import worker
from attestation.conformance.case import Judgement
from attestation.errors import AttestationError, UnavailableError

if TYPE_CHECKING:
    from attestation.encoding.strict_json import JsonValue

CATALOGUE_SECONDS = 300.0
_STOP_SECONDS = 10.0


class WorkerProcess:
    """A started worker and the catalogue of cases that it read.

    Starting raises what reading the directory raises, or `UnavailableError` if the worker ends
    without having listed its cases.
    """

    def __init__(self, module: str, directory: str) -> None:
        # A fresh interpreter: a forked copy of a process with threads may hang by itself.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=worker.serve, args=(theirs, module, directory))
        self._process.start()
        theirs.close()
        self.lost = False
        try:
            self.catalogue = self._read_catalogue()
        except AttestationError:
            self.stop()
            raise

    def judge(self, index: int, seconds: float) -> Judgement:
        """Run the case at `index` for at most `seconds`; afterwards `lost` says if it survived."""
        try:
            self._connection.send(index)
            if self._connection.poll(seconds):
                judgement: Judgement = self._connection.recv()
                return judgement
        except (EOFError, OSError):
            self.lost = True
            return Judgement(got="crash: the process ended", ok=False)
        self.lost = True
        return Judgement(got=f"timeout: {seconds:g} s", ok=False)

    def stop(self) -> None:
        """End the process: by asking it if it still listens, by force if not."""
        if not self.lost:
            self._ask_to_end()
            self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()
        self._process.close()

    def _ask_to_end(self) -> None:
        try:
            self._connection.send(None)
        except OSError:
            self.lost = True

    def _read_catalogue(self) -> list[tuple[str, JsonValue]]:
        try:
            answer = self._connection.recv() if self._connection.poll(CATALOGUE_SECONDS) else None
        except EOFError:
            answer = None
        if isinstance(answer, AttestationError):
            raise answer
        if answer is None:
            self.lost = True
            raise UnavailableError(
                "the conformance worker ended before it had listed its cases",
                code="worker",
                hint="its own message stands above",
            )
        catalogue: list[tuple[str, JsonValue]] = answer
        return catalogue
