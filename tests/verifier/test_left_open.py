"""What is said to be open, where an answer, a quote or a piece of evidence does not hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import make_bundle
from attestation.encoding.digest import Digest
from attestation.result import AttestationResult, Status, Verdict
from attestation.statement import ChallengeStatement, nonce_root
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.quote import parse_quote
from attestation.verifier import ChallengeEvidence, verify_challenge, verify_raw_quote
from attestation.verifier.appraisal import Appraised, Standing
from attestation.verifier.grounds import Grounds
from attestation.verifier.running import grounds_of
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import (
    NOW,
    Gateway,
    failed,
    open_checks,
)
from tests.support.epochs import EpochLog, quoted_by
from tests.verifier.support import HEALTHY, OTHER, checks, epoch_log, gateway

LOOSE = "require_anchored = false"
NONCE = b"\x5a" * 32


# Challenges and roots


def challenged(log: EpochLog, quote: bytes | None = None, **changes: Any) -> AttestationResult:
    """The answer of a boot whose epochs are known; `changes` are of its statement."""
    made, checkpoint = log.made, log.checkpoint()
    policy = changes.pop("policy", None) or made.policy()
    stated = ChallengeStatement(
        bootseed=made.bootseed,
        boot_quote_digest=made.quote_digest,
        keyset_digest=made.keyset.digest,
        nonce_root=nonce_root([NONCE]),
        size=checkpoint.size,
        root=Digest(checkpoint.root),
    )
    statement = replace(stated, **changes)
    given = quote or quoted_by(made, statement.report_data)
    challenge = ChallengeEvidence(statement=statement, quote=given, index=0, count=1, path=())
    bundle = make_bundle(
        boots=[made.evidence], collateral=[made.machine.collateral()], epochs=log.epochs
    )
    anchors = [made.anchor]
    return verify_challenge(bundle, challenge, NONCE, policy, NOW + 60, anchors)


def forked_root(log: EpochLog) -> dict[str, Any]:
    said = log.epochs[-1].statement
    return {"size": said.size, "root": Digest.of(b"another tree")}


def test_genuine_answer_over_another_tree_is_equivocation() -> None:
    log = epoch_log(1)
    assert failed(challenged(log)) == set()
    assert failed(challenged(log, **forked_root(log))) == {"EQUIVOCATION"}


def test_answer_that_is_not_genuine_accuses_nobody() -> None:
    log = epoch_log(1)
    plain = challenged(log, **forked_root(log))
    assert failed(plain) == {"EQUIVOCATION"}
    statement = ChallengeStatement(
        bootseed=log.made.bootseed,
        boot_quote_digest=log.made.quote_digest,
        keyset_digest=log.made.keyset.digest,
        nonce_root=nonce_root([NONCE]),
        size=log.epochs[-1].statement.size,
        root=Digest.of(b"another tree"),
    )
    quote = bytearray(quoted_by(log.made, statement.report_data))
    # One bit of the attestation key's signature over the report.
    quote[640] ^= 1
    result = challenged(log, bytes(quote), **forked_root(log))
    assert failed(result) == {"QUOTE-GENUINE"}


def test_later_quotes_of_a_boot_are_judged_under_its_own_root_alone() -> None:
    made, other = Gateway(), Gateway(seed="b")
    grounds = Grounds(policy=made.policy(), at=NOW, anchors=(other.anchor, made.anchor))
    known = Appraised(boot=made.evidence, quote=None, genuine=None, standing=Standing.REFUTED)
    assert grounds_of(known, grounds) == grounds
    read = replace(known, quote=parse_quote(made.evidence.quote))
    assert grounds_of(read, grounds).anchors == (made.anchor,)


def test_answer_carries_the_checks_of_its_boot_and_requires_its_nonce() -> None:
    log = epoch_log(1)
    result = challenged(log)
    assert [check.subject.split()[0] for check in checks(result, "BOOT-CHAIN")] == ["boot"]
    (nonce,) = checks(result, "NONCE")
    assert nonce.required


def test_answer_lacks_what_the_policy_requires_and_nobody_checks() -> None:
    log = epoch_log(1)
    policy = log.made.policy(more="[gpu]\nrequired = true")
    result = challenged(log, policy=policy)
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {"GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"}


def test_answer_whose_quote_cannot_be_read_says_that_its_statement_is_open() -> None:
    result = challenged(epoch_log(1), b"\x04\x00")
    own = [one for one in checks(result, "BOOT-STATEMENT") if one.subject == "challenge"]
    assert [(check.status, check.required) for check in own] == [(Status.SKIP, True)]


# Evidence that this version does not check


def test_gpu_evidence_leaves_three_checks_open_by_their_names() -> None:
    made = gateway()
    made.evidence = replace(made.evidence, gpu=({"kind": "any"},))
    result = made.verify()
    left = {"GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"}
    assert open_checks(result) == left
    titles = {check.id: check.title for check in result.checks if check.id in left}
    assert titles.keys() == left
    assert all(titles.values())


# Quotes that are not genuine

_NEEDS_A_GENUINE_QUOTE = (
    "COLLATERAL-FRESH",
    "TCB-STATUS",
    "TCB-ADVISORIES",
    "TD-ATTRIBUTES",
    "TDX-MODULE",
    "MEASUREMENTS",
    "PLATFORM",
    "EVENT-LOG",
)


@pytest.mark.parametrize("id_", _NEEDS_A_GENUINE_QUOTE)
def test_check_that_needs_a_genuine_quote_is_open_on_a_boot_without_one(id_: str) -> None:
    made = gateway()
    made.evidence = replace(made.evidence, quote=b"\x04\x00")
    own = [one for one in checks(made.verify(), id_) if one.subject.startswith("boot ")]
    assert [(check.status, "genuine quote" in check.reason) for check in own] == [
        (Status.SKIP, True)
    ]


@pytest.mark.parametrize("id_", _NEEDS_A_GENUINE_QUOTE)
def test_check_that_needs_a_genuine_quote_is_open_on_a_raw_one_that_is_not(id_: str) -> None:
    made = gateway()
    quote = bytearray(made.evidence.quote)
    quote[640] ^= 1
    result = verify_raw_quote(
        bytes(quote), made.machine.collateral(), made.policy(), NOW + 60, [made.anchor]
    )
    assert [check.status for check in checks(result, id_)] == [Status.SKIP]


def test_debug_domain_fails_its_attributes_once() -> None:
    platform = SimulatedPlatform(now=NOW, seed=bytes(32))
    debugged = platform.but(domain=replace(platform.domain, td_attributes=0x1000_0001))
    made = Gateway(platform=debugged)
    own = [one for one in checks(made.verify(), "TD-ATTRIBUTES") if one.subject[:4] == "boot"]
    assert [check.status for check in own] == [Status.FAIL]


def test_refusal_of_another_root_says_which_roots_there_are() -> None:
    made = gateway()
    for anchor, words in ((INTEL_ANCHOR, "give its root with --root"), (OTHER.anchor, "one each")):
        result = verify_raw_quote(
            made.evidence.quote, made.machine.collateral(), None, NOW, [anchor]
        )
        (check,) = checks(result, "QUOTE-GENUINE")
        assert check.status is Status.FAIL
        assert words in check.hint


def test_quote_that_is_not_genuine_is_of_the_root_it_hangs_under() -> None:
    made = gateway()
    quote = bytearray(made.evidence.quote)
    quote[640] ^= 1
    boot = replace(made.evidence, quote=bytes(quote))
    for anchors in ([INTEL_ANCHOR, made.anchor], [made.anchor, INTEL_ANCHOR]):
        result = made.verify(bundle=made.bundle(boots=[boot]), anchors=anchors)
        assert failed(result) == {"QUOTE-GENUINE"}
        assert result.trust_domains == {"simulated"}


def test_receipt_of_a_boot_whose_quote_cannot_be_read_is_not_shown_to_be_the_boots() -> None:
    made = gateway()
    made.evidence = replace(made.evidence, quote=b"\x04\x00")
    (check,) = checks(made.verify(), "RECEIPT-BINDING")
    assert check.status is Status.SKIP
    assert "quote could not be read" in check.reason


# Places in the log


def test_without_a_policy_a_place_that_nobody_quoted_is_said_to_be_unanchored() -> None:
    quoted, later = epoch_log(1), epoch_log(1)
    later.serve()
    for result, count in (
        (quoted.verify(policy=None, epochs=[]), "2 of 2"),
        (later.verify(policy=None), "3 of 3"),
    ):
        assert any(f"{count} receipts are not anchored" in note for note in result.not_proved)
        assert not any("in a quoted state" in note for note in result.not_proved)


def test_what_no_check_can_show_is_said_of_every_result() -> None:
    notes = gateway().verify().not_proved
    assert [note.partition(":")[0] for note in notes[-2:]] == [
        "physical attacks",
        "the software itself",
    ]


def test_platform_list_is_open_on_a_raw_quote_that_cannot_be_read() -> None:
    policy = HEALTHY.policy(more=f'[platform]\nfmspc = ["{"00" * 6}"]')
    result = verify_raw_quote(b"\x04\x00", None, policy, NOW, [HEALTHY.anchor])
    (check,) = checks(result, "PLATFORM")
    assert (check.status, check.required) == (Status.SKIP, True)


@pytest.mark.parametrize("data", [b"", b"\x04\x00", b"{}"])
def test_of_what_is_no_quote_nothing_was_checked_and_nothing_else_is_said(data: bytes) -> None:
    """A list of what is left open would read as if all else had been shown."""
    result = verify_raw_quote(data, None, HEALTHY.policy(), NOW, [HEALTHY.anchor])
    assert result.not_proved == ("anything: the file is not a quote, so nothing in it was checked",)
    genuine = HEALTHY.evidence.quote
    shown = verify_raw_quote(genuine, None, HEALTHY.policy(), NOW, [HEALTHY.anchor])
    assert not [one for one in shown.not_proved if one.startswith("anything")]
