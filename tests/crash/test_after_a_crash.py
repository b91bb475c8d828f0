"""What crash searches found once, each as a case of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from gateway.attester.base import open_provider
from gateway.notary.local import LocalNotary
from gateway.notary.log.database import IndexDatabase
from gateway.notary.log.index import ReceiptIndex
from tests.crash.faults import Fault, FaultyLayer
from tests.crash.life import parts_of, without_loop
from tests.crash.memory import MemoryLayer
from tests.crash.power import truth_of
from tests.crash.promises import Outsider, said_by
from tests.crash.restart import restart
from tests.crash.states import Image
from tests.crash.trace import Note


@pytest.fixture
def lived(tmp_path: Path) -> MemoryLayer:
    """A data folder with one boot that has ended in order."""
    base = tmp_path / "lived"
    (base / "data").mkdir(parents=True)
    layer = MemoryLayer(base)
    without_loop(parts_of(base, layer, open_provider("simulated:")), layer.promise)
    return layer


@pytest.mark.parametrize(
    "begun", [b"", b"attested-gateway/segment/1\n", b"attested-gateway/segment"]
)
def test_receipts_are_proved_though_the_last_segment_was_hardly_begun(
    lived: MemoryLayer, tmp_path: Path, begun: bytes
) -> None:
    image = lived.image()
    segments = sorted(name for name in image.files if name.endswith(".seg"))
    following = f"{segments[-1][:-10]}{len(segments):06}.seg"
    without_export = {name: data for name, data in image.files.items() if "/log/" not in name}
    torn = Image(folders=image.folders, files={**without_export, following: begun})
    said = said_by(op for op in lived.trace if isinstance(op, Note))
    read = Outsider(truth=truth_of(image)).judge(torn, said)
    restart(tmp_path, torn, said, read)


@pytest.mark.parametrize("call", ["open", "read_at", "list_folder"])
async def test_disk_error_under_the_predecessor_refuses_the_start(
    lived: MemoryLayer, tmp_path: Path, call: str
) -> None:
    (tmp_path / "data").mkdir()
    layer = FaultyLayer(MemoryLayer(tmp_path, lived.image()))
    layer.fail_first(call, lambda about: about.endswith(("boot.json", "segments")))
    with pytest.raises(UnavailableError) as refusal:
        await LocalNotary.start(parts_of(tmp_path, layer, open_provider("simulated:")))
    assert refusal.value.code == "data_dir"
    assert layer.hit is not None


def test_receipt_indexed_while_it_was_looked_up_is_not_said_to_be_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = MemoryLayer(tmp_path)
    (tmp_path / "data").mkdir()
    layer.make_folder(tmp_path / "data")
    index = ReceiptIndex(layer, tmp_path / "data", tmp_path / "index.sqlite", "00" * 8)

    def completed_meanwhile(self: ReceiptIndex, ask: Callable[[IndexDatabase], object]) -> None:
        self._complete = True

    monkeypatch.setattr(ReceiptIndex, "_look_up", completed_meanwhile)
    with pytest.raises(UnavailableError) as refusal:
        index.get(bytes(16))
    assert refusal.value.code == "index_incomplete"
    assert index.get(bytes(16)) is None


@pytest.mark.parametrize("about", [".seg", "data"])
def test_close_that_fails_after_everything_was_synced_ends_in_order(
    tmp_path: Path, about: str
) -> None:
    (tmp_path / "data").mkdir()
    memory = MemoryLayer(tmp_path)
    layer = FaultyLayer(memory, fault=Fault.EIO)
    layer.fail_first("close", lambda name: name.endswith(about))
    ended: list[str] = []
    without_loop(
        parts_of(tmp_path, layer, open_provider("simulated:"), on_end=ended.append), memory.promise
    )
    assert layer.hit is not None
    assert ended == ["closed"]
