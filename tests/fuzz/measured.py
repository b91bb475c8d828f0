"""Parsers of what images are made of: firmware, PE images, disks, variable stores, predictions."""

from __future__ import annotations

from attestation.measure.compare import compare_log, read_tpm_log
from attestation.measure.document import encode_measurements, parse_measurements
from attestation.measure.efivars import describe_signatures, parse_signatures, parse_variable_store
from attestation.measure.gpt import gpt_event
from attestation.measure.hob import make_td_hob
from attestation.measure.mrtd import PageOrder, predict_mrtd
from attestation.measure.pe import parse_pe
from attestation.measure.tdvf import parse_tdvf
from attestation.measure.uki import parse_uki
from attestation.policy.parse import parse_policy
from attestation.policy.predicted import import_predicted
from tests.measure import builders, independent, machines

_MOST_PAGES = 4096


def run_firmware(data: bytes) -> None:
    sections = parse_tdvf(data)
    # Larger ones are right too, and would take a second each.
    if sum(one.memory for one in sections) <= _MOST_PAGES << 12:
        assert len(predict_mrtd(sections, PageOrder.TWO_PASS)) == 48
    make_td_hob(sections, 2 << 30)


def firmware() -> list[bytes]:
    return [builders.firmware()]


def run_pe(data: bytes) -> None:
    assert parse_pe(data).authenticode() == independent.authenticode(data)


def images() -> list[bytes]:
    sections = [(".text", b"code"), (".data", b"d" * 600)]
    return [builders.pe(sections), builders.pe(sections, signed=b"signature")]


def run_uki(data: bytes) -> None:
    uki = parse_uki(data)
    assert uki.command_line == uki.command_line.strip(" ")
    assert len(uki.initrd) >= sum(len(uki.content(name) or b"") for name in (".initrd", ".ucode"))
    assert dict(uki.measured)[".linux"]


def ukis() -> list[bytes]:
    return [builders.uki()]


def run_gpt(data: bytes) -> None:
    assert gpt_event(data) == independent.gpt_event(data)


def disks() -> list[bytes]:
    return [builders.gpt()]


def run_variables(data: bytes) -> None:
    for signatures in parse_variable_store(data).values():
        assert describe_signatures(signatures)


def variables() -> list[bytes]:
    return [builders.variable_store(machines.ENROLLED), builders.variable_store({})]


def run_signatures(data: bytes) -> None:
    assert sum(len(one.data) for one in parse_signatures(data)) <= len(data)


def signatures() -> list[bytes]:
    return [builders.signatures(builders.SHA256, [bytes(32), bytes(32)])]


def run_measurements(data: bytes) -> None:
    assert encode_measurements(parse_measurements(data)) == data
    policy = parse_policy(import_predicted(data).encode())
    assert len(policy.reference_values) == len(PageOrder)


def measurements() -> list[bytes]:
    return [encode_measurements(machines.tdx())]


def run_tpm_log(data: bytes) -> None:
    log = read_tpm_log(data)
    for register in compare_log(machines.tpm(), log):
        assert register.explanation
        told = tuple(one.seen for one in register.events if one.seen is not None)
        assert told == log[register.name]
        assert len(register.unforeseen) + sum(one.foreseen for one in register.events) == len(told)


def tpm_logs() -> list[bytes]:
    return [machines.log(machines.logged(machines.tpm()))]
