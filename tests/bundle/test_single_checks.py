"""Checks on a bundle that another one would hide, and bounds by their own reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attestation.bundle import parse, parse_bundle, parse_evidence
from attestation.encoding import base64url, jcs
from attestation.tdx.quote import MAX_QUOTE_BYTES
from tests.refusals import refusal
from tests.support.bundles import Gateway
from tests.support.epochs import EpochLog


def document() -> dict[str, Any]:
    log = EpochLog(Gateway())
    log.serve(2)
    log.quote_epoch()
    value: dict[str, Any] = json.loads(log.bundle().encode())
    return value


def test_list_of_a_bundle_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jcs.canonicalize(document())
    monkeypatch.setattr(parse, "MAX_ITEMS", 2)
    assert len(parse_bundle(data).receipts) == 2
    monkeypatch.setattr(parse, "MAX_ITEMS", 1)
    assert refusal(parse_bundle, data) == "member_value"


@pytest.mark.parametrize("part", ["boots", "epochs"])
def test_quote_is_bounded(part: str) -> None:
    value = document()
    value[part][0]["quote"] = base64url.encode(bytes(MAX_QUOTE_BYTES))
    assert parse_bundle(jcs.canonicalize(value)).boots
    value[part][0]["quote"] = base64url.encode(bytes(MAX_QUOTE_BYTES + 1))
    assert refusal(parse_bundle, jcs.canonicalize(value)) == "member_value"


@pytest.mark.parametrize("part", ["boots", "epochs", "receipts"])
def test_member_that_is_not_known_is_refused_wherever_it_stands(part: str) -> None:
    value = document()
    value[part][0]["more"] = 1
    assert refusal(parse_bundle, jcs.canonicalize(value)) == "unknown_member"


def test_bundle_in_which_the_name_of_an_answer_stands_is_a_bundle() -> None:
    value = document()
    value["boots"][0]["gpu"] = [{"schema": "attested-gateway/attestation/v1"}]
    assert len(parse_evidence(jcs.canonicalize(value)).boots) == 1
