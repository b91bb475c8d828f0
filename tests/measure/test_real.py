"""Firmware as Debian ships it and logs of real guests, where they are at hand."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from attestation.measure.boot import KernelBoot
from attestation.measure.hob import make_td_hob
from attestation.measure.hostpart import LoggedEvent, host_part
from attestation.measure.mrtd import PageOrder, predict_mrtd
from attestation.measure.pe import parse_pe
from attestation.measure.tdvf import SectionType, parse_tdvf
from attestation.measure.tdx import TdxMachine, predict_tdx
from attestation.tdx.logfile import parse_log_file
from tests import vectors_path
from tests.measure import builders, independent

# Where Debian's packages ovmf and ovmf-inteltdx put it, and ATTESTED_FIRMWARE for files elsewhere.
PLACES = ("/usr/share/ovmf/OVMF.fd", "/usr/share/ovmf/OVMF.inteltdx.ms.fd")
# By the SHA-256 of the file: MRTD in both orders, TD HOB for 2 GiB, variable store.
KNOWN = {
    "7b456907dd0786d415999e801a1ac4637b8ed4d7cf5378cfc6edbe5e574dd773": (
        "4c7206f0f483c524",
        "acccbcc870a381ad",
        "0b8772e5b0b41b83",
        "f87302177b059d54",
    ),
    "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db": (
        "bdc6fb145880f06f",
        "456f07902150d008",
        "0e35f1b315ba6c91",
        "344bc51c980ba621",
    ),
    "a265075b4147a096109e501e76196df1ec8a18659c26f7401492c597ec88f312": (
        "a7a1f751abc454f9",
        "b90b236113eb4c0d",
        "0b8772e5b0b41b83",
        "327d4a91229b3993",
    ),
}


def images() -> list[Path]:
    named = os.environ.get("ATTESTED_FIRMWARE", "").split(":")
    return [Path(one) for one in (*named, *PLACES) if one and Path(one).is_file()]


@pytest.mark.parametrize("path", images() or [None])
def test_firmware_of_debian_has_the_known_values(path: Path | None) -> None:
    if path is None:
        pytest.skip("firmware absent: install ovmf, or set ATTESTED_FIRMWARE to files of it")
    data = path.read_bytes()
    sections = parse_tdvf(data)
    (store,) = (one.raw for one in sections if one.type is SectionType.CFV)
    found = (
        predict_mrtd(sections, PageOrder.INTERLEAVED),
        predict_mrtd(sections, PageOrder.TWO_PASS),
        independent.sha384(make_td_hob(sections, 2 << 30)),
        independent.sha384(store),
    )
    second = (independent.mrtd(data, two_pass=False), independent.mrtd(data, two_pass=True))
    assert found[:2] == second
    assert found[2] == independent.sha384(independent.td_hob(data, 2 << 30))
    known = KNOWN.get(hashlib.sha256(data).hexdigest())
    if known is not None:
        assert tuple(one.hex()[:16] for one in found) == known


def test_rtmr0_of_a_real_guest_is_predicted_but_for_the_hosts_part() -> None:
    folder = vectors_path.need("tdx/Dstack-TEE-dstack")
    data = (folder / "tdx-lite-getquote.json").read_bytes()
    events = [one for one in parse_log_file(data).events if one.register == 0]
    observed = [LoggedEvent(type=one.type, digest=one.digest, data=b"") for one in events]
    machine = TdxMachine(
        sections=parse_tdvf(builders.firmware()),
        memory=2 << 30,
        boot=KernelBoot(kernel=parse_pe(builders.KERNEL), initrd=b"", command_line=""),
        host=host_part(acpi={}, variables=[], observed=observed),
        runtime=(),
    )
    (rtmr0, *_) = predict_tdx(machine, [], {}).registers
    seen = [event.digest for event in events]
    # All but the variable store, which is the firmware's: its memory map is the classic one.
    assert [one.digest for one in rtmr0.events[:1]] + [one.digest for one in rtmr0.events[2:]] == [
        seen[0],
        *seen[2:],
    ]
    assert seen[1].hex().startswith("344bc51c980ba621")
