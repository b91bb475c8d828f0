"""The statement about a release: what it must say, and what must agree in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError
from attestation.release.dsse import parse_envelope, sign_envelope
from attestation.release.packs import PackKind
from attestation.release.statement import (
    PAYLOAD_TYPE,
    Release,
    pack_of,
    parse_release,
    require_subject,
    verify_release,
)
from tests.refusals import refusal
from tests.release.builders import description, key, release, signed, vkeys

RELEASE = release()
BOTH = release((description(), description(PackKind.ENGINE)))


def changed(change: Callable[[dict[str, Any]], object], made: Release = RELEASE) -> bytes:
    value = json.loads(made.canonical)
    change(value)
    return jcs.canonicalize(value)


@pytest.mark.parametrize("made", [RELEASE, BOTH, release(())])
def test_release_reads_back_as_it_was(made: Release) -> None:
    assert parse_release(made.canonical) == made


def test_signed_release_names_its_signers() -> None:
    found, signers = verify_release(parse_envelope(signed()), vkeys(1))
    assert (found, signers) == (RELEASE, tuple(vkeys(1)))


def test_release_signed_by_somebody_else_is_refused() -> None:
    envelope = parse_envelope(signed(RELEASE, 2))
    assert refusal(verify_release, envelope, vkeys(1), error=EvidenceError) == "release_signature"


def test_signed_payload_of_another_type_is_refused() -> None:
    envelope = sign_envelope("application/json", RELEASE.canonical, [key(1)])
    assert refusal(verify_release, envelope, vkeys(1)) == "release"


def test_it_is_an_in_toto_statement() -> None:
    value = json.loads(RELEASE.canonical)
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert {"name": "sbom.cdx.json", "digest": {"sha256": Digest.of(b"sbom").hex}} in value[
        "subject"
    ]
    assert PAYLOAD_TYPE == "application/vnd.in-toto+json"


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda v: v.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda v: v.update(more=1),
        lambda v: v["subject"].clear(),
        lambda v: v["subject"].reverse(),
        lambda v: v["subject"].append(v["subject"][-1]),
        lambda v: v["subject"][0].update(name="../x"),
        lambda v: v["subject"][0]["digest"].update(sha512="00"),
        lambda v: v["subject"][0].update(uri="x"),
        lambda v: v["predicate"].update(more=1),
        lambda v: v["predicate"].update(version=""),
        lambda v: v["predicate"].update(profile=None),
        lambda v: v["predicate"]["measurements"].clear(),
        lambda v: v["predicate"]["measurements"].update({"a b": 1}),
        lambda v: v["predicate"]["measurements"]["tdx-4G"].update(schema="x"),
        lambda v: v["predicate"]["measurements"]["tdx-4G"].update(inputs=[]),
        lambda v: v["predicate"]["packs"].append(v["predicate"]["packs"][0]),
        lambda v: v["predicate"].update(packs=[1]),
    ],
)
def test_statement_in_another_form_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    refusal(parse_release, changed(change))


def test_value_of_a_register_that_its_events_do_not_lead_to_is_refused() -> None:
    def change(value: dict[str, Any]) -> None:
        value["predicate"]["measurements"]["tdx-4G"]["registers"][1]["value"] = "00" * 48

    assert refusal(parse_release, changed(change)) == "measurements"


@pytest.mark.parametrize("name", ["OVMF.fd", "gateway.efi", "gateway.raw", "model.raw"])
def test_release_that_does_not_name_what_it_rests_on_is_refused(name: str) -> None:
    made = release(without=(name,))
    assert refusal(parse_release, made.canonical, error=EvidenceError) == "release"


@pytest.mark.parametrize("line", ["ro", "ro attested.model=" + "00" * 32])
def test_image_that_was_not_built_for_the_pack_is_refused(line: str) -> None:
    made = release(line=line)
    assert refusal(parse_release, made.canonical, error=EvidenceError) == "pack_root"


def test_command_line_that_was_not_measured_is_refused() -> None:
    told = f"ro {description().argument}"
    made = release(line="ro init=/bin/sh", settings={"command_line": told})
    assert refusal(parse_release, made.canonical, error=EvidenceError) == "release"


def test_prediction_without_a_command_line_is_refused() -> None:
    one = RELEASE.measurements["tdx-4G"]
    registers = tuple(
        replace(register, events=()) if register.name == "rtmr2" else register
        for register in one.registers
    )
    made = replace(RELEASE, measurements={"tdx-4G": replace(one, registers=registers)})
    assert refusal(parse_release, made.canonical, error=EvidenceError) == "release"


def test_artefact_is_compared_by_name_and_digest() -> None:
    require_subject(RELEASE, "sbom.cdx.json", Digest.of(b"sbom"))
    for name, digest in (("sbom.cdx.json", Digest.of(b"x")), ("other", Digest.of(b"sbom"))):
        code = refusal(require_subject, RELEASE, name, digest, error=EvidenceError)
        assert code == "release"


def test_pack_of_a_kind_is_found() -> None:
    assert pack_of(RELEASE, PackKind.MODEL) == description()
    assert pack_of(RELEASE, PackKind.ENGINE) is None
