"""A topic whose cases do everything a case must not do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from attestation.conformance.case import Case
from attestation.conformance.files import VectorDirectory
from attestation.errors import MalformedError


def fail() -> str:
    message = "anything"
    raise KeyError(message)


def leave() -> str:
    os._exit(0)


def end() -> str:
    raise SystemExit(0)


def hang() -> str:
    time.sleep(600)
    return "accept"


def linger() -> None:
    time.sleep(600)


ACTIONS: dict[str, Callable[[], str]] = {
    "good": lambda: "accept",
    "fail": fail,
    "leave": leave,
    "end": end,
    "hang": hang,
}


def cases(directory: VectorDirectory, resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every action that the file `actions` lists."""
    for line in directory.read("actions").decode().splitlines():
        if line == "refuse":
            message = "refused"
            raise MalformedError(message, code="manifest", observed="this")
        if line == "vanish":
            os._exit(3)
        if line == "linger":
            resources.callback(linger)
        elif line.startswith("note "):
            resources.callback(Path(line[5:]).touch)
        else:
            name, expected = line.split(" ", 1)
            yield Case(name=name, expected=json.loads(expected), run=ACTIONS[name])
