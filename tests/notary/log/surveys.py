"""Looking at what earlier boots left, and changing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.notary.files import FileLayer
from gateway.notary.log.examination import Depth, SurveyedBoot
from gateway.notary.log.segments import (
    MAGIC,
    Kind,
    encode_record,
    parse_segment,
)
from gateway.notary.log.survey import Survey, examine, survey
from gateway.notary.log.walk import BootStatus
from tests.support.stored_logs import StoredLog

LAYER = FileLayer()


def looked_at(data_dir: Path, **changes: object) -> Survey:
    return survey(LAYER, data_dir, **changes)  # type: ignore[arg-type]


def whole_read(log: StoredLog, **changes: object) -> SurveyedBoot:
    return examine(LAYER, log.data_dir, log.name, looked_at(log.data_dir), **changes)  # type: ignore[arg-type]


def status_of(log: StoredLog) -> BootStatus:
    """The status after a full read, having seen that the quick look told of nothing else."""
    quick = looked_at(log.data_dir).boots[log.name]
    found = whole_read(log)
    assert found.depth in (Depth.WHOLE, Depth.EVIDENCE)
    if quick.status is not BootStatus.WHOLE:
        assert found.status is not BootStatus.WHOLE
    return found.status


def edit(path: Path, change: Callable[[bytearray], object]) -> None:
    content = bytearray(path.read_bytes())
    changed = change(content)
    path.write_bytes(changed if isinstance(changed, bytes) else content)


def cut(path: Path, size: int) -> None:
    edit(path, lambda content: bytes(content[:size]))


def flip(path: Path, place: int) -> None:
    def change(content: bytearray) -> None:
        content[place] ^= 1

    edit(path, change)


def state(data_dir: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in data_dir.rglob("*")
    }


def rewritten(log: StoredLog, change: Callable[[list[tuple[int, bytes]]], object]) -> None:
    """Write a boot's only segment anew with whole frames, `change` having changed the records."""
    (path,) = log.segments
    records = [(int(r.kind), r.payload) for r in parse_segment(path.read_bytes())]
    change(records)
    path.write_bytes(MAGIC + b"".join(encode_record(*record) for record in records))


def places(records: list[tuple[int, bytes]], kind: Kind) -> list[int]:
    return [place for place, record in enumerate(records) if record[0] == kind]
