"""The process that runs product code over cases, so that a crash or a hang costs one case."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.conformance.case import judge
from attestation.conformance.files import VectorDirectory
from attestation.errors import AttestationError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def serve(connection: Connection, module: str, directory: str) -> None:
    """Send the catalogue of cases, then a `Judgement` for every index received.

    The catalogue is a list of (name, expected), or the `AttestationError` that reading the
    directory raised.  Ends at a None or when the other side goes away.
    """
    with ExitStack() as resources:
        try:
            cases = list(import_module(module).cases(VectorDirectory(Path(directory)), resources))
        except AttestationError as error:
            connection.send(error)
            return
        try:
            connection.send([(case.name, case.expected) for case in cases])
            while (index := connection.recv()) is not None:
                connection.send(judge(cases[index]))
        except (EOFError, OSError):
            # The runner is gone: nobody waits for the rest.
            return
