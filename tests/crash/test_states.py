"""The simulator itself: what it calls durable is kept, what it calls in flight may be gone."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.crash.memory import MemoryLayer
from tests.crash.states import SECTOR, Image, Mood, state
from tests.crash.trace import Medium, Op

BASE = Path("/disk")
SEEDS = range(400)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable, no secret


def medium_of(trace: list[Op]) -> Medium:
    medium = Medium()
    for op in trace:
        medium.play(op)
    return medium


def states_of(layer: MemoryLayer) -> list[Image]:
    return [state(medium_of(layer.trace), seeded(seed), mood) for seed in SEEDS for mood in Mood]


def test_synced_file_with_a_synced_name_is_in_every_state() -> None:
    layer = MemoryLayer(BASE)
    descriptor = layer.create(BASE / "a")
    layer.write(descriptor, b"kept" * 300)
    layer.sync_data(descriptor)
    layer.sync_folder(BASE)
    layer.write(descriptor, b"maybe" * 300)
    found = [image.files["a"] for image in states_of(layer)]
    assert all(data.startswith(b"kept" * 300) for data in found)
    assert {len(data) for data in found} >= {1200, 2700}


def test_unsynced_name_is_there_or_not_whatever_its_data() -> None:
    layer = MemoryLayer(BASE)
    descriptor = layer.create(BASE / "a")
    layer.write(descriptor, b"data")
    layer.sync_data(descriptor)
    found = {image.files.get("a") for image in states_of(layer)}
    assert found == {None, b"data"}


def test_unsynced_bytes_may_be_missing_torn_zero_garbage_or_there() -> None:
    layer = MemoryLayer(BASE)
    descriptor = layer.create(BASE / "a")
    layer.sync_folder(BASE)
    data = b"x" * (3 * SECTOR)
    layer.write(descriptor, data)
    found = {image.files["a"] for image in states_of(layer)}
    assert {b"", data} <= found
    assert any(
        d[:SECTOR] == bytes(SECTOR) and d[SECTOR : 2 * SECTOR] == b"x" * SECTOR for d in found
    )
    assert any(set(d[:SECTOR]) - {0, ord("x")} for d in found if len(d) >= SECTOR)
    assert any(0 < len(d) < SECTOR for d in found)


def test_renamed_file_has_its_old_or_its_new_content_but_a_name_for_ever() -> None:
    layer = MemoryLayer(BASE)
    for name, data in (("a", b"old"), ("b", b"new")):
        descriptor = layer.create(BASE / name)
        layer.write(descriptor, data)
        layer.sync_data(descriptor)
    layer.sync_folder(BASE)
    layer.rename(BASE / "b", BASE / "a")
    found = {(image.files["a"], "b" in image.files) for image in states_of(layer)}
    assert found == {(b"old", True), (b"new", False)}


def test_folder_whose_name_is_lost_takes_its_files_along() -> None:
    layer = MemoryLayer(BASE)
    layer.make_folder(BASE / "d")
    descriptor = layer.create(BASE / "d" / "a")
    layer.write(descriptor, b"data")
    layer.sync_data(descriptor)
    layer.sync_folder(BASE / "d")
    found = {frozenset(image.files) for image in states_of(layer)}
    assert found == {frozenset(), frozenset({"d/a"})}


@given(st.lists(st.binary(min_size=1, max_size=900), max_size=6), st.integers(0, 6), st.integers())
def test_nothing_before_the_last_sync_is_ever_lost(
    writes: list[bytes], synced: int, seed: int
) -> None:
    layer = MemoryLayer(BASE)
    descriptor = layer.create(BASE / "a")
    layer.sync_folder(BASE)
    for data in writes[:synced]:
        layer.write(descriptor, data)
    layer.sync_data(descriptor)
    for data in writes[synced:]:
        layer.write(descriptor, data)
    for mood in Mood:
        content = state(medium_of(layer.trace), seeded(seed), mood).files["a"]
        assert content.startswith(b"".join(writes[:synced]))
        assert len(content) <= len(b"".join(writes))


def test_image_can_be_gone_on_with() -> None:
    layer = MemoryLayer(BASE)
    layer.make_folder(BASE / "d")
    descriptor = layer.create(BASE / "d" / "a")
    layer.write(descriptor, b"data")
    again = MemoryLayer(BASE, layer.image())
    assert again.image() == layer.image()
    assert medium_of(again.trace).in_flight == 0
    opened = again.open(BASE / "d" / "a")
    assert again.read_at(opened, 10, 1) == b"ata"
