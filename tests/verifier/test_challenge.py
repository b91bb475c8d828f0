"""A boot answers a nonce: what its answer has to be, and what does not pass for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import make_bundle
from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.encoding.strict_json import parse_json
from attestation.errors import UsageError
from attestation.merkle.tree import inclusion_path, leaf_hash, node_hash
from attestation.result import AttestationResult, Status, Verdict
from attestation.statement import ChallengeStatement, nonce_root
from attestation.tdx.anchor import Anchor
from attestation.verifier import (
    ChallengeEvidence,
    parse_challenge,
    verify_boots,
    verify_challenge,
)
from gateway.attester.simulated.facts import Domain, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.refusals import refusal
from tests.support.bundles import NOW, Gateway, failed, open_checks
from tests.support.epochs import EpochLog

BOOT = Gateway()
NONCE = b"\x5a" * 32
OTHERS = [bytes([number]) * 32 for number in range(4)]
NONCES = [*OTHERS[:2], NONCE, *OTHERS[2:]]


def answer(made: Gateway, nonces: list[bytes] = NONCES, **changes: Any) -> ChallengeEvidence:
    """What a boot says to NONCE, which waits among `nonces`; `changes` of its statement."""
    statement = replace(
        ChallengeStatement(
            bootseed=made.bootseed,
            boot_quote_digest=made.quote_digest,
            keyset_digest=made.keyset.digest,
            nonce_root=nonce_root(nonces),
            size=1,
            root=Digest.of(b"log"),
        ),
        **changes,
    )
    index = nonces.index(NONCE)
    return ChallengeEvidence(
        statement=statement,
        quote=quoted(made, statement),
        index=index,
        count=len(nonces),
        path=tuple(inclusion_path(index, [leaf_hash(nonce) for nonce in nonces])),
    )


def quoted(made: Gateway, statement: ChallengeStatement) -> bytes:
    """A quote of the boot's domain, its key extended into RTMR3 as at the start."""
    log = made.evidence.event_log
    events = log.parse().events if log else ()
    return made.quote(statement.report_data, [event.digest for event in events])


def judge(challenge: ChallengeEvidence, made: Gateway = BOOT, **changes: Any) -> AttestationResult:
    arguments: dict[str, Any] = {
        "bundle": make_bundle(boots=[made.evidence], collateral=[made.machine.collateral()]),
        "nonce": NONCE,
        "policy": made.policy(),
        "at": NOW + 60,
        "anchors": [made.anchor],
    }
    return verify_challenge(challenge=challenge, **arguments | changes)


def refused(result: AttestationResult, verdict: Verdict, *ids: str) -> None:
    """These checks on the challenge failed, and none on the boot."""
    assert result.verdict is verdict
    assert failed(result) == set(ids)
    bad = [check for check in result.checks if check.status is Status.FAIL]
    assert {check.subject for check in bad} == {"challenge"}


@pytest.mark.parametrize("nonces", [NONCES, [NONCE], NONCES[1:4]])
@pytest.mark.parametrize("version", [4, 5])
def test_answer_of_the_boot_is_accepted(nonces: list[bytes], version: int) -> None:
    made = Gateway(version=version)
    result = judge(answer(made, nonces), made)
    assert result.verdict is Verdict.SIMULATED
    assert len(result.facts["quotes"]) == 2  # type: ignore[arg-type]


def test_challenges_quote_goes_through_the_checks_of_the_boots_quote() -> None:
    result = judge(answer(BOOT))
    made = {
        subject: {check.id for check in result.checks if check.subject == subject}
        for subject in {check.subject for check in result.checks}
    }
    (boot,) = (ids for subject, ids in made.items() if subject.startswith("boot "))
    assert made["challenge"] == boot - {"KEYSET", "BOOT-CHAIN"} | {"NONCE"}


def test_boot_that_is_not_accepted_cannot_answer() -> None:
    made = Gateway(statement_changes={"keyset_digest": Digest.of(b"another")})
    alone = make_bundle(boots=[made.evidence], collateral=[made.machine.collateral()])
    before = verify_boots(alone, made.policy(), NOW, [made.anchor])
    result = judge(answer(made), made)
    assert before.verdict is result.verdict is Verdict.REJECTED


# The nonce


def test_answer_to_another_nonce_is_rejected() -> None:
    refused(judge(answer(BOOT), nonce=OTHERS[0]), Verdict.REJECTED, "NONCE")


def test_replayed_answer_is_rejected() -> None:
    earlier = answer(BOOT)
    assert judge(earlier).verdict is Verdict.SIMULATED
    refused(judge(earlier, nonce=b"\x5b" * 32), Verdict.REJECTED, "NONCE")


def test_replayed_quote_with_a_path_made_for_the_new_nonce_is_rejected() -> None:
    old, new = answer(BOOT, [NONCE, *OTHERS]), answer(BOOT, [*OTHERS, NONCE])
    spliced = replace(old, index=new.index, count=new.count, path=new.path)
    refused(judge(spliced), Verdict.REJECTED, "NONCE")


def dropped(challenge: ChallengeEvidence) -> ChallengeEvidence:
    return replace(challenge, path=challenge.path[:-1])


@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, index=c.index + 1),
        lambda c: replace(c, index=c.count),
        lambda c: replace(c, count=c.count + 4),
        lambda c: replace(c, path=(*c.path, bytes(32))),
        lambda c: replace(c, path=c.path[::-1]),
        lambda c: replace(c, path=()),
        dropped,
    ],
)
def test_wrong_path_is_rejected(change: Callable[[ChallengeEvidence], ChallengeEvidence]) -> None:
    refused(judge(change(answer(BOOT))), Verdict.REJECTED, "NONCE")


def test_inner_node_is_no_nonce() -> None:
    inner = node_hash(leaf_hash(NONCES[0]), leaf_hash(NONCES[1]))
    shorter = answer(BOOT, [NONCE, OTHERS[0]])
    lifted = replace(shorter, index=0, count=1, path=())
    refused(judge(lifted, nonce=inner), Verdict.REJECTED, "NONCE")


@pytest.mark.parametrize("nonce", [b"", NONCE[:31], NONCE + b"\x00"])
def test_nonce_of_another_length_is_a_mistake_of_the_caller(nonce: bytes) -> None:
    assert refusal(judge, answer(BOOT), nonce=nonce, error=UsageError) == "nonce"


# The statement


@pytest.mark.parametrize(
    "change",
    [
        {"nonce_root": nonce_root([NONCE])},
        {"size": 2},
        {"root": Digest.of(b"another log")},
    ],
)
def test_altered_statement_is_rejected(change: dict[str, Any]) -> None:
    challenge = answer(BOOT)
    altered = replace(challenge, statement=replace(challenge.statement, **change))
    result = judge(altered)
    assert result.verdict is Verdict.REJECTED
    assert "BOOT-STATEMENT" in failed(result)


def test_boots_own_quote_is_no_answer() -> None:
    again = replace(answer(BOOT), quote=BOOT.evidence.quote)
    refused(judge(again), Verdict.REJECTED, "BOOT-STATEMENT")


@pytest.mark.parametrize(
    "change",
    [
        {"bootseed": b"\x01" * 32},
        {"keyset_digest": Digest.of(b"keys")},
        {"boot_quote_digest": Digest.of(b"quote")},
    ],
)
def test_quoted_statement_about_another_boot_is_rejected(change: dict[str, Any]) -> None:
    result = judge(answer(BOOT, **change))
    refused(result, Verdict.REJECTED, "BOOT-STATEMENT")
    (check,) = (c for c in result.checks if c.status is Status.FAIL)
    assert check.expected.startswith(next(iter(change)))


def test_answer_of_another_boot_on_the_same_platform_is_rejected() -> None:
    other = Gateway(seed="b", platform=BOOT.machine)
    result = judge(answer(other))
    assert result.verdict is Verdict.REJECTED
    assert "BOOT-STATEMENT" in failed(result)


# The quote


def elsewhere(platform: SimulatedPlatform) -> ChallengeEvidence:
    """An answer that says all the right things, quoted somewhere else."""
    challenge = answer(BOOT)
    other = Gateway(platform=platform)
    return replace(challenge, quote=quoted(other, challenge.statement))


@pytest.mark.parametrize(
    ("field", "machine"),
    [("PPID", Machine(ppid=b"\x01" * 16)), ("PIID", Machine(piid=b"\x01" * 16))],
)
def test_same_software_on_another_platform_is_rejected(field: str, machine: Machine) -> None:
    result = judge(elsewhere(BOOT.machine.but(machine=machine)))
    refused(result, Verdict.REJECTED, "BOOT-STATEMENT")
    (check,) = (c for c in result.checks if c.status is Status.FAIL)
    assert check.expected.startswith(f"{field} ")
    assert check.observed == f"{field} {'01' * 8}…"


def test_platform_without_an_instance_id_is_another_than_one_with_it() -> None:
    result = judge(elsewhere(BOOT.machine.but(machine=Machine(single_package=True))))
    refused(result, Verdict.REJECTED, "BOOT-STATEMENT")
    assert any(check.observed == "PIID none" for check in result.checks)


@pytest.mark.parametrize(
    "domain",
    [
        Domain(mrtd=b"\x01" * 48),
        Domain(td_attributes=Domain().td_attributes | 1 << 63),
        Domain(xfam=Domain().xfam ^ 0x200),
        Domain(mr_config_id=b"\x01" * 48),
        Domain(mr_owner=b"\x01" * 48),
        Domain(mr_owner_config=b"\x01" * 48),
        *(
            Domain(
                rtmrs=(*Domain().rtmrs[:n], b"\x01" * 48, *Domain().rtmrs[n + 1 :])  # type: ignore[arg-type]
            )
            for n in range(4)
        ),
    ],
)
def test_quote_of_another_trust_domain_is_rejected(domain: Domain) -> None:
    result = judge(elsewhere(BOOT.machine.but(domain=domain)))
    assert result.verdict is Verdict.REJECTED
    assert "BOOT-STATEMENT" in failed(result)


def test_debug_domain_is_rejected_and_its_attributes_are_not_accepted() -> None:
    debug = Domain(td_attributes=Domain().td_attributes | 1)
    result = judge(elsewhere(BOOT.machine.but(domain=debug)))
    refused(result, Verdict.REJECTED, "BOOT-STATEMENT", "TD-ATTRIBUTES")


def test_root_of_another_boot_that_the_caller_also_accepts_is_rejected() -> None:
    twin = SimulatedPlatform(now=NOW, seed=b"\x07" * 32, machine=_same_name(BOOT.machine))
    result = judge(elsewhere(twin), anchors=[BOOT.anchor, twin.anchor])
    refused(result, Verdict.REJECTED, "QUOTE-GENUINE")


def _same_name(platform: SimulatedPlatform) -> Machine:
    facts = judge(answer(BOOT)).facts["quotes"][0]  # type: ignore[index]
    return replace(
        platform.machine, ppid=bytes.fromhex(facts["ppid"]), piid=bytes.fromhex(facts["piid"])
    )


def test_module_that_is_not_on_the_list_is_not_accepted() -> None:
    listed = BOOT.machine.machine.mr_seam.hex()
    policy = BOOT.policy(tdx=f'mrseam = ["{listed}"]')
    updated = BOOT.machine.but(machine=replace(BOOT.machine.machine, mr_seam=b"\x01" * 48))
    assert judge(answer(BOOT), policy=policy).verdict is Verdict.SIMULATED
    challenge = elsewhere(updated)
    refused(judge(challenge, policy=policy), Verdict.NOT_ACCEPTED, "TDX-MODULE")


@pytest.mark.parametrize("change", [lambda q: q + bytes(1), lambda q: q[:-1], lambda q: q[:0]])
def test_quote_in_another_form_is_malformed(change: Callable[[bytes], bytes]) -> None:
    challenge = answer(BOOT)
    result = judge(replace(challenge, quote=change(challenge.quote)))
    refused(result, Verdict.MALFORMED, "QUOTE-FORMAT")


def test_quote_with_a_changed_byte_is_rejected() -> None:
    challenge = answer(BOOT)
    quote = bytearray(challenge.quote)
    quote[48] ^= 1  # TEE_TCB_SVN: signed, and no part of the domain's identity
    refused(judge(replace(challenge, quote=bytes(quote))), Verdict.REJECTED, "QUOTE-GENUINE")


def test_boot_whose_quote_cannot_be_read_has_no_answer() -> None:
    boot = replace(BOOT.evidence, quote=b"")
    bundle = make_bundle(boots=[boot], collateral=[BOOT.machine.collateral()])
    result = judge(answer(BOOT), bundle=bundle)
    assert result.verdict is Verdict.MALFORMED
    assert "BOOT-STATEMENT" in open_checks(result)


# Grounds


def test_without_endorsements_the_answer_is_incomplete() -> None:
    bundle = make_bundle(boots=[replace(BOOT.evidence, collateral=None)])
    result = judge(answer(BOOT), bundle=bundle)
    assert result.verdict is Verdict.INCOMPLETE
    assert "QUOTE-GENUINE" in open_checks(result)


def test_without_a_policy_the_answer_is_incomplete() -> None:
    assert judge(answer(BOOT), policy=None).verdict is Verdict.INCOMPLETE


def test_under_another_root_the_answer_is_rejected() -> None:
    other: Anchor = Gateway(seed="c").anchor
    assert judge(answer(BOOT), anchors=[other]).verdict is Verdict.REJECTED


def test_endorsements_that_ran_out_are_not_accepted() -> None:
    result = judge(answer(BOOT), at=NOW + 400 * 86_400)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"COLLATERAL-FRESH"}


@pytest.mark.parametrize("boots", [[], [BOOT.evidence, Gateway(seed="b").evidence]])
def test_challenge_is_the_answer_of_one_boot(boots: list[Any]) -> None:
    bundle = make_bundle(boots=[replace(boot, collateral=None) for boot in boots])
    assert refusal(judge, answer(BOOT), bundle=bundle, error=UsageError) == "boots"


# The log


def log_bundle(log: EpochLog) -> Any:
    return log.bundle(receipts=[])


def quoted_log() -> EpochLog:
    log = EpochLog(Gateway())
    log.serve()
    log.quote_epoch()
    return log


def test_log_of_the_challenge_may_be_the_one_of_an_epoch() -> None:
    log = quoted_log()
    said = log.epochs[0].statement
    for size, root in ((said.size, said.root), (3, Digest.of(b"x"))):
        result = judge(answer(log.made, size=size, root=root), log.made, bundle=log_bundle(log))
        assert result.verdict is Verdict.SIMULATED
        (check,) = [c for c in result.checks if c.id == "EQUIVOCATION"]
        assert check.status is Status.PASS


def test_challenge_over_another_log_than_an_epochs_is_equivocation() -> None:
    log = quoted_log()
    result = judge(answer(log.made, size=2), log.made, bundle=log_bundle(log))
    assert failed(result) == {"EQUIVOCATION"}
    (check,) = [c for c in result.checks if c.id == "EQUIVOCATION"]
    assert "epoch 0 (root " in check.reason
    assert "the challenge (root " in check.reason


def test_challenge_that_is_not_the_boots_says_nothing_about_its_log() -> None:
    log = quoted_log()
    forged = answer(log.made, size=2, keyset_digest=Digest.of(b"x"))
    result = judge(forged, log.made, bundle=log_bundle(log))
    assert failed(result) == {"BOOT-STATEMENT"}


def test_epoch_beside_a_challenge_is_judged_too() -> None:
    log = quoted_log()
    log.epochs[0] = replace(log.epochs[0], quote=log.made.evidence.quote)
    result = judge(answer(log.made), log.made, bundle=log_bundle(log))
    assert failed(result) == {"EPOCH-QUOTE"}


# The document


def document(challenge: ChallengeEvidence) -> dict[str, Any]:
    return {
        "count": challenge.count,
        "index": challenge.index,
        "path": [base64url.encode(node) for node in challenge.path],
        "quote": base64url.encode(challenge.quote),
        "statement": challenge.statement.to_json(),
    }


def read(value: Any) -> ChallengeEvidence:
    return parse_challenge(parse_json(json.dumps(value).encode()))


def test_document_reads_back_as_what_was_written() -> None:
    challenge = answer(BOOT)
    assert read(document(challenge)) == challenge


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"more": 1}, "unknown_member"),
        ({"count": 0}, "member_value"),
        ({"index": -1}, "member_value"),
        ({"index": 1.0}, "member_type"),
        ({"path": [1]}, "member_type"),
        ({"path": ["AAAA"]}, "base64url"),
        ({"path": [base64url.encode(bytes(32))] * 54}, "member_value"),
        ({"quote": base64url.encode(bytes(16 * 1024 + 1))}, "member_value"),
        ({"statement": BOOT.evidence.statement.to_json()}, "member_value"),
        ({"statement": answer(BOOT).statement.to_json() | {"more": 1}}, "unknown_member"),
        ({"statement": answer(BOOT).statement.to_json() | {"size": 1.0}}, "member_type"),
    ],
)
def test_document_of_another_form_is_malformed(change: dict[str, Any], code: str) -> None:
    assert refusal(read, document(answer(BOOT)) | change) == code


@pytest.mark.parametrize("value", [None, [], "challenge"])
def test_answer_without_a_challenge_is_malformed(value: Any) -> None:
    assert refusal(read, value) == "member_type"
