"""Claims follow from outcome and context, and openings open exactly what is claimed."""

from __future__ import annotations

import pytest

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.receipt.claims import RETRY, Attempt, End, Splice
from attestation.receipt.claims_parser import parse_claims
from attestation.receipt.commitments import commit, commitment_key
from attestation.receipt.outcome import ModelFacts
from attestation.receipt.seal import claims_of, parent_digest, receipt_id_in
from tests.receipt.support import (
    BOOT_SECRET,
    CHAT_FRAME,
    DONE,
    JTI,
    REQUEST,
    body,
    context,
    digest,
    lineage,
    measured_model,
    outcome,
    stream,
)


def test_every_claim_comes_from_its_source() -> None:
    told = outcome(nonce="nonce-of-the-caller")
    claims, _ = claims_of(told, context(call=3, previous=digest("p"), gpu_evidence=digest("g")))
    document = claims.to_json()
    assert document["iss"] == "gateway.example"
    assert document["jti"] == JTI
    assert document["eat_nonce"] == "nonce-of-the-caller"
    assert document["bootseed"] == base64url.encode(b"\x11" * 32)
    assert document["keys"] == digest("keyset").base64url
    assert document["dbgstat"] == "disabled"
    assert document["submods"]["tdx"] == {
        "provider": "simulated",
        "quote": digest("quote").base64url,
    }
    assert document["submods"]["gpu"] == {"evidence": digest("g").base64url}
    assert document["act"] == {"sub": digest("key").base64url}
    assert document["pol"] == {"dec": "allow", "dig": digest("grant").base64url}
    assert document["log"] == {"adm": 9, "i": 7, "o": "gateway.example/1111111111111111"}
    assert document["lin"] == {
        "k": 3,
        "par": [],
        "prev": digest("p").base64url,
        "sp": "00f067aa0ba902b7",
        "txn": "task-1",
    }


def test_only_labels_that_are_claimed_are_opened() -> None:
    assert set(claims_of(outcome(), context())[1].keys) == {"req", "res"}
    told = outcome(
        forwarded=body(b"f"),
        splices=(Splice(code="x", offset=0, deleted=0, inserted=1),),
        inserted=(b"s",),
        engine=body(b"e"),
    )
    _, openings = claims_of(told, context())
    assert set(openings.keys) == {"req", "fwd", "eng", "res"}
    assert openings.inserted == (b"s",)


def test_commitments_are_to_the_bodies_under_the_opened_keys() -> None:
    claims, openings = claims_of(outcome(), context())
    assert openings.keys["req"] == commitment_key(BOOT_SECRET, "req", JTI)
    assert claims.request.commitment == commit(openings.keys["req"], Digest.of(REQUEST))
    assert claims.response.commitment == commit(openings.keys["res"], Digest.of(b"answer"))


def test_receipt_of_a_stream_has_its_events_and_block() -> None:
    claims, _ = claims_of(stream([CHAT_FRAME + DONE]).outcome, context())
    document = claims.to_json()["res"]
    assert (document["n"], document["o"], document["end"]) == (2, len(CHAT_FRAME), "complete")
    assert parse_claims(claims.to_json()) == claims


def test_secret_of_the_boot_never_shows_in_a_representation() -> None:
    assert "boot secret" not in repr(context())


def test_inserted_bytes_never_show_in_a_representation() -> None:
    assert "salt" not in repr(outcome(inserted=(b"salt of a tenant",)))


@pytest.mark.parametrize(
    ("identifier", "found"),
    [
        (JTI, JTI),
        (f"chatcmpl-{JTI}", JTI),
        (f"chatcmpl-{JTI}-2", JTI),
        (JTI + "0", None),
        ("0" * 64, None),
        ("no id", None),
        (JTI.upper(), None),
    ],
)
def test_receipt_id_is_found_inside_other_ids(identifier: str, found: str | None) -> None:
    assert receipt_id_in(identifier) == found


KNOWN = {JTI: digest("receipt")}


class TestParents:
    def stands_for(self, declared: str) -> Digest:
        return parent_digest(declared, KNOWN)

    def test_digest_stands_for_itself_in_both_spellings(self) -> None:
        wanted = digest("any")
        assert self.stands_for(wanted.hex) == wanted
        assert self.stands_for(wanted.base64url) == wanted

    def test_known_id_stands_for_its_receipt(self) -> None:
        assert self.stands_for(JTI) == digest("receipt")
        assert self.stands_for(f"chatcmpl-{JTI}") == digest("receipt")

    def test_unknown_id_stands_for_a_digest_of_the_id(self) -> None:
        unknown = "f" * 32
        wanted = Digest.of(b"attested-gateway/receipt-id/v1/" + unknown.encode())
        assert self.stands_for(unknown) == wanted
        assert self.stands_for(f"chatcmpl-{unknown}") == wanted

    def test_other_text_stands_for_a_digest_of_itself(self) -> None:
        wanted = Digest.of(b"attested-gateway/receipt-id/v1/step-1")
        assert self.stands_for("step-1") == wanted

    def test_parents_are_claimed_as_declared_in_their_order(self) -> None:
        declared = (digest("b").hex, JTI)
        told = outcome(lineage=lineage(parent_span="1" * 16, parents=declared))
        claims, _ = claims_of(told, context(known=KNOWN))
        assert claims.to_json()["lin"]["par"] == [
            ["d", digest("b").base64url],
            ["d", digest("receipt").base64url],
        ]
        assert claims.to_json()["lin"]["psp"] == "1" * 16

    def kinds(self, declared: int) -> list[str]:
        parents = tuple(digest(f"parent-{n}").hex for n in range(declared))
        told = outcome(lineage=lineage(parents=parents))
        claims, _ = claims_of(told, context(repeats=digest("attempt")))
        assert parse_claims(claims.to_json()) == claims
        linked = claims.lineage.parents[-1].kind == RETRY
        assert claims.lineage.retry_of == (digest("attempt") if linked else None)
        return [parent.kind for parent in claims.lineage.parents]

    def test_what_a_call_repeats_comes_after_what_was_declared(self) -> None:
        assert self.kinds(0) == ["r"]
        assert self.kinds(2) == ["d", "d", "r"]
        assert self.kinds(15) == ["d"] * 15 + ["r"]

    def test_sixteen_declared_parents_leave_no_room_for_what_a_call_repeats(self) -> None:
        assert self.kinds(16) == ["d"] * 16

    def test_call_without_parents_repeats_nothing(self) -> None:
        assert claims_of(outcome(), context())[0].lineage.retry_of is None


def test_failure_of_the_gateway_is_sealed_with_what_is_known() -> None:
    claims, _ = claims_of(outcome(end=End.GATEWAY_FAILURE, status=None, response=None), context())
    assert parse_claims(claims.to_json()).response.commitment is None


def test_measured_model_comes_from_the_notary_and_makes_attempts_local() -> None:
    attempts = (Attempt(upstream="engine", local=True, outcome="ok", milliseconds=4),)
    told = outcome(attempts=attempts, model=ModelFacts(id="tiny", engine="vllm/of-the-worker"))
    claims, _ = claims_of(told, context(model=measured_model()))
    model = claims.to_json()["model"]
    assert model["dig"] == digest("weights").base64url
    assert model["cfg"] == digest("arguments").base64url
    assert (model["id"], model["eng"]) == ("tiny", "e" * 40)
    assert [attempt.local for attempt in claims.attempts] == [True]


def test_worker_cannot_call_its_engine_local_where_nothing_was_measured() -> None:
    attempts = (Attempt(upstream="engine", local=True, outcome="ok", milliseconds=4),)
    told = outcome(attempts=attempts, model=ModelFacts(engine="vllm/0.32.0"))
    claims, _ = claims_of(told, context())
    model = claims.to_json()["model"]
    assert (model["dig"], model["cfg"], model["eng"]) == (None, None, "vllm/0.32.0")
    assert [attempt.local for attempt in claims.attempts] == [False]


def test_measured_model_is_not_claimed_for_an_engine_elsewhere() -> None:
    there = Attempt(upstream="engine", local=True, outcome="ok", milliseconds=4)
    elsewhere = Attempt(upstream="other", local=False, outcome="reset", milliseconds=4)
    claims, _ = claims_of(outcome(attempts=(elsewhere, there)), context(model=measured_model()))
    assert claims.model.digest is claims.model.configuration is None
    assert [attempt.local for attempt in claims.attempts] == [False, False]


def test_request_that_no_engine_saw_names_the_measured_model() -> None:
    claims, _ = claims_of(outcome(), context(model=measured_model()))
    assert claims.model.digest == digest("weights")
    assert claims.attempts == ()
