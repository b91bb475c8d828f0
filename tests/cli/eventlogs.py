"""Event logs as files, and a quote that holds what one replays to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from attestation.tdx.events import replay
from attestation.tdx.logfile import parse_log_file
from tests.support.bundles import Gateway
from tests.tdx.test_ccel import header, record
from tests.tdx.test_runtime_log import key, measured

LOG = [measured("model.lock"), measured("engine.args"), key(1)]


def ccel(*contents: bytes, register: int = 1) -> bytes:
    return header() + b"".join(record(register, content) for content in contents)


def quoting(data: bytes, at: int = 0) -> bytes:
    """A quote, under a simulated root, that shows what the log's register `at` leads to."""
    made = Gateway()
    domain = replace(made.machine.domain, rtmrs=replay(parse_log_file(data)))
    return made.machine.quote(bytes(64), domain=domain)


def write(path: Path, name: str, data: bytes | list[Any]) -> str:
    (path / name).write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return str(path / name)
