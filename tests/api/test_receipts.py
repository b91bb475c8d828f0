"""GET /v1/receipts/{id} in every state that a receipt can be in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.bundle import BundledReceipt, make_bundle, parse_bundle, parse_evidence
from attestation.errors import UnavailableError
from gateway.notary.interface import Found, ReceiptState
from tests.api.fakes import Faked, FakeNotary, epoch_of, faked
from tests.support.bundles import Gateway

BUNDLE = "?format=bundle"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Faked]:
    async with faked(tmp_path, FakeNotary()) as running:
        yield running


def sealed(gateway: Gateway) -> tuple[Found, BundledReceipt]:
    item = gateway.plain().item
    found = Found(
        jti=item.jti,
        state=ReceiptState.SEALED,
        token=item.receipt.token,
        openings=item.openings,
    )
    return found, item


def anchored(gateway: Gateway) -> tuple[Found, BundledReceipt]:
    found, _ = sealed(gateway)
    gateway.anchored()
    item = gateway.exchanged[-1].item
    state = ReceiptState.ANCHORED
    return replace(found, state=state, proof=item.proof, epoch=epoch_of(gateway)), item


async def test_a_sealed_receipt_says_so_and_has_no_proof(served: Faked) -> None:
    found, item = sealed(served.notary.gateway)
    served.notary.answers = [found]
    response = await served.get(f"/v1/receipts/{item.jti}")
    assert response.status_code == 200
    assert response.headers["x-receipt-state"] == response.json()["state"] == "sealed"
    assert response.headers["x-receipt-id"] == item.jti
    assert response.json()["proof"] is None
    assert parse_evidence(response.content).receipts == (item,)
    assert served.notary.waited == [0.0]


async def test_an_anchored_receipt_brings_its_proof(served: Faked) -> None:
    found, item = anchored(served.notary.gateway)
    served.notary.answers = [found]
    response = await served.get(f"/v1/receipts/{item.jti}?wait=anchored")
    assert response.headers["x-receipt-state"] == response.json()["state"] == "anchored"
    assert parse_evidence(response.content).receipts == (item,)
    assert served.notary.waited == [30.0]


async def test_its_bundle_has_exactly_the_anchoring_epoch_and_its_endorsements(
    served: Faked,
) -> None:
    gateway = served.notary.gateway
    found, item = anchored(gateway)
    served.notary.answers = [found]
    served.notary.epochs = [epoch_of(gateway, number) for number in range(3)]
    response = await served.get(f"/v1/receipts/{item.jti}{BUNDLE}")
    assert response.headers["x-receipt-state"] == "anchored"
    assert response.headers["x-receipt-id"] == item.jti
    bundle = parse_bundle(response.content)
    assert bundle.receipts == (item,)
    assert bundle.epochs == (found.epoch,)
    assert bundle.boots == (gateway.evidence,)
    assert list(bundle.collateral) == [gateway.evidence.collateral]


async def test_who_waits_gets_what_there_is_when_the_time_is_over(served: Faked) -> None:
    found, item = sealed(served.notary.gateway)
    served.notary.answers = [found]
    response = await served.get(f"/v1/receipts/{item.jti}{BUNDLE}&wait=anchored")
    assert response.headers["x-receipt-state"] == "sealed"
    bundle = parse_bundle(response.content)
    assert bundle.receipts == (item,)
    assert not bundle.epochs


async def test_a_running_request_is_202_in_either_form(served: Faked) -> None:
    served.notary.answers = [Found(jti="0" * 32, state=ReceiptState.RUNNING)]
    for query in ("", BUNDLE, "?wait=anchored"):
        response = await served.get(f"/v1/receipts/{'0' * 32}{query}")
        assert (response.status_code, response.headers["retry-after"]) == (202, "1")
        assert response.headers["x-receipt-state"] == response.json()["state"] == "running"


@pytest.mark.parametrize("state", [ReceiptState.ANCHORED, ReceiptState.UNANCHORED_FINAL])
async def test_a_receipt_of_an_earlier_boot_comes_with_that_boot_and_without_openings(
    served: Faked, state: ReceiptState
) -> None:
    earlier = Gateway(seed="earlier")
    found, item = anchored(earlier) if state is ReceiptState.ANCHORED else sealed(earlier)
    evidence = make_bundle(boots=[earlier.evidence], collateral=[earlier.machine.collateral()])
    served.notary.answers = [replace(found, state=state, openings=None, earlier=evidence)]
    response = await served.get(f"/v1/receipts/{item.jti}{BUNDLE}")
    bundle = parse_bundle(response.content)
    assert bundle.boots == (earlier.evidence,)
    assert list(bundle.collateral) == [earlier.evidence.collateral]
    assert bundle.receipts == (replace(item, openings=None),)
    assert bundle.epochs == ((found.epoch,) if found.epoch else ())
    document = await served.get(f"/v1/receipts/{item.jti}")
    assert document.json()["openings"] is None
    assert document.headers["x-receipt-state"] == document.json()["state"] == str(state)


async def test_the_keyset_header_names_the_boot_that_answers_whatever_it_answers_about(
    served: Faked,
) -> None:
    earlier = Gateway(seed="earlier")
    found, item = anchored(earlier)
    evidence = make_bundle(boots=[earlier.evidence], collateral=[earlier.machine.collateral()])
    served.notary.answers = [replace(found, openings=None, earlier=evidence)]
    response = await served.get(f"/v1/receipts/{item.jti}{BUNDLE}")
    assert response.headers["x-keyset-digest"] == served.notary.gateway.keyset.digest.hex
    assert item.receipt.claims.keyset_digest == earlier.keyset.digest


async def test_a_receipt_that_cannot_be_read_back_is_503_and_may_be_asked_for_again(
    served: Faked,
) -> None:
    served.notary.answers = [UnavailableError("in /a/file", code="log_unreadable")]
    response = await served.get(f"/v1/receipts/{'0' * 32}")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "log_unreadable"
    assert int(response.headers["retry-after"]) > 0
    assert "/a/file" not in response.text


@pytest.mark.parametrize("query", ["?wait=sealed", "?wait=", "?format=zip"])
async def test_a_parameter_with_another_value_is_refused(served: Faked, query: str) -> None:
    response = await served.get(f"/v1/receipts/{'0' * 32}{query}")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "parameter")
    assert not served.notary.waited
