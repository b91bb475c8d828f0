"""The guest's side of packs: which partitions it takes for a root hash, and what it refuses."""

from __future__ import annotations

import runpy
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from attestation.release.gpt import PackLayout
from attestation.release.packs import PackKind

ROOT = Path(__file__).parents[2]
EXTRA = ROOT / "enclave_image/mkosi.extra/usr/lib"
GUEST: dict[str, Any] = runpy.run_path(str(EXTRA / "attested-tools/attach-pack"))
HEX = bytes(range(32)).hex()
root_hash = cast("Callable[[str, str], str | None]", GUEST["root_hash"])
commands = cast("Callable[[str, str], list[list[str]]]", GUEST["commands"])


def test_guest_looks_for_the_partitions_that_a_pack_has() -> None:
    layout = PackLayout(root=bytes(range(32)), data_bytes=4096, verity_bytes=4096)
    data, tree = GUEST["partitions"](HEX)
    assert uuid.UUID(data.name) == layout.data_partuuid
    assert uuid.UUID(tree.name) == layout.verity_partuuid


@pytest.mark.parametrize("kind", list(PackKind))
def test_root_hash_is_that_of_the_command_line(kind: PackKind) -> None:
    assert root_hash(f"roothash={'0' * 64} {kind.argument}={HEX} quiet", kind.value) == HEX
    assert root_hash(f"roothash={HEX} x{kind.argument}={HEX}", kind.value) is None


@pytest.mark.parametrize(
    "line",
    [
        *("attested.model=", "attested.model=00", f"attested.model={HEX.upper()}"),
        *(f"attested.model={HEX} attested.model={HEX}", f"attested.model={HEX}0"),
    ],
)
def test_command_line_that_names_no_root_hash_stops_the_boot(line: str) -> None:
    with pytest.raises(GUEST["PackError"]):
        root_hash(line, "model")


@pytest.mark.parametrize("kind", list(PackKind))
def test_pack_is_attached_by_its_root_hash_and_mounted_read_only(kind: PackKind) -> None:
    wait, attach, mount = commands(kind.value, HEX)
    assert wait[:2] == ["udevadm", "wait"]
    assert attach[-2:] == [HEX, "panic-on-corruption"]
    options = mount[mount.index("-o") + 1].split(",")
    assert {"ro", "nodev", "nosuid"} <= set(options)
    assert ("noexec" in options) == (kind is PackKind.MODEL)
    assert mount[-2:] == [f"/dev/mapper/attested-{kind.value}", str(GUEST["PLACES"][kind.value])]


def test_unit_runs_what_is_there_and_ends_the_machine_where_it_fails() -> None:
    unit = (EXTRA / "systemd/system/attested-pack@.service").read_text(encoding="utf-8")
    assert "ExecStart=/usr/lib/attested-tools/attach-pack %i\n" in unit
    assert "FailureAction=poweroff-force\n" in unit
    assert (EXTRA / "attested-tools/attach-pack").stat().st_mode & 0o111 == 0o111
