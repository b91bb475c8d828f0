"""Boots that anybody could have made: refused themselves, and evidence against nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from attestation.bundle import BootEvidence, make_bundle, parse_bundle
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.result import AttestationResult, Check, Status, Verdict
from attestation.statement import PreviousBoot
from gateway.attester.simulated.facts import Domain
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Gateway, failed, open_checks, the_check
from tests.support.epochs import EpochLog, continued, together
from tests.verifier.support import HEALTHY

OWN_MACHINE = SimulatedPlatform(now=NOW, seed=b"a machine of the forger's")


class Impostor(Gateway):
    """A boot with keys of its own under the bootseed of the honest one."""

    @property
    def bootseed(self) -> bytes:
        return HEALTHY.bootseed


def contradicting(platform: SimulatedPlatform) -> Gateway:
    """Return an impostor that signed two receipts for one place in the log."""
    made = Impostor(seed="thief", platform=platform)
    made.plain()
    made.plain(request=b"{}", context={"index": 1})
    return made


def swapped_keyset(made: Gateway) -> BootEvidence:
    return replace(HEALTHY.evidence, keyset=made.keyset)


def swapped_statement(made: Gateway) -> BootEvidence:
    return replace(made.evidence, quote=HEALTHY.evidence.quote)


def changed_quote(made: Gateway) -> BootEvidence:
    quote = bytearray(made.evidence.quote)
    quote[300] ^= 1
    return replace(made.evidence, quote=bytes(quote))


def no_quote(made: Gateway) -> BootEvidence:
    return replace(made.evidence, quote=b"quote")


def judge(made: Gateway, boot: BootEvidence) -> AttestationResult:
    receipts = [*HEALTHY.exchanged, *made.exchanged]
    bundle = HEALTHY.bundle(
        boots=[boot],
        collateral=[made.machine.collateral()],
        receipts=[one.item for one in receipts],
    )
    return HEALTHY.verify(bundle=bundle, contents={})


# Equivocation


def test_boot_that_is_genuine_and_contradicts_itself_is_an_equivocator() -> None:
    made = contradicting(HEALTHY.machine)
    result = made.verify(contents={})
    assert failed(result) == {"EQUIVOCATION"}


def test_boot_without_endorsements_that_contradicts_itself_is_an_equivocator() -> None:
    made = contradicting(HEALTHY.machine)
    boot = replace(made.evidence, collateral=None)
    result = made.verify(bundle=made.bundle(boots=[boot], collateral=[]), contents={})
    assert failed(result) == {"EQUIVOCATION"}


@pytest.mark.parametrize(
    ("forge", "machine", "verdict", "id_"),
    [
        (swapped_keyset, HEALTHY.machine, Verdict.REJECTED, "KEYSET"),
        (swapped_statement, HEALTHY.machine, Verdict.REJECTED, "BOOT-STATEMENT"),
        (changed_quote, HEALTHY.machine, Verdict.REJECTED, "QUOTE-GENUINE"),
        (lambda made: made.evidence, OWN_MACHINE, Verdict.REJECTED, "QUOTE-GENUINE"),
        (no_quote, HEALTHY.machine, Verdict.MALFORMED, "QUOTE-FORMAT"),
    ],
)
def test_receipts_under_a_forged_boot_make_nobody_an_equivocator(
    forge: Callable[[Gateway], BootEvidence],
    machine: SimulatedPlatform,
    verdict: Verdict,
    id_: str,
) -> None:
    made = contradicting(machine)
    result = judge(made, forge(made))
    assert result.verdict is verdict
    assert id_ in failed(result)
    assert the_check(result, "EQUIVOCATION").status is Status.SKIP
    # The two contradicting receipts are signed by the key beside them: only the boot is wrong.
    signatures = [c.status for c in result.checks if c.id == "RECEIPT-SIGNATURE"]
    assert signatures.count(Status.PASS) == 2


def test_epochs_of_a_boot_with_a_swapped_keyset_are_no_evidence() -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    log.quote_epoch()
    other = EpochLog(Gateway())
    other.serve(2, response=b"another answer")
    other.quote_epoch()
    keyset = replace(log.made.keyset, not_after=log.made.keyset.not_after + 1)
    assert log.verify().verdict is Verdict.SIMULATED
    assert "EQUIVOCATION" in failed(log.verify(epochs=[*log.epochs, *other.epochs]))
    for given in (log.epochs, [*log.epochs, *other.epochs]):
        boot = replace(log.made.evidence, keyset=keyset)
        result = log.verify(boots=[boot], epochs=given)
        assert result.verdict is Verdict.REJECTED
        assert "EQUIVOCATION" not in failed(result)
        assert "EPOCH-QUOTE" in open_checks(result)
        assert result.facts["epochs"] == []


# Predecessors


def after(before: Gateway, seed: str, platform: SimulatedPlatform | None = None) -> Gateway:
    """Return a boot that names `before` by a checkpoint of its log, which everybody can read."""
    text = Checkpoint(origin=before.origin, size=3, root=bytes(32)).text
    note = sign_note(text, before.origin, before.log_key)
    prev = PreviousBoot(checkpoint=note, quote_digest=before.quote_digest)
    return Gateway(seed=seed, platform=platform or before.machine, prev=prev)


def chained(*boots: BootEvidence, forger: SimulatedPlatform | None = None) -> AttestationResult:
    sets = [platform.collateral() for platform in (HEALTHY.machine, forger) if platform]
    bundle = make_bundle(
        boots=boots, collateral=sets, receipts=[one.item for one in HEALTHY.exchanged]
    )
    return HEALTHY.verify(bundle=parse_bundle(bundle.encode()))


def chain_check(result: AttestationResult, boot: BootEvidence) -> Check:
    subject = f"boot {boot.statement.bootseed.hex()[:16]}"
    (check,) = [c for c in result.checks if c.id == "BOOT-CHAIN" and c.subject == subject]
    return check


HONEST = after(HEALTHY, "honest").evidence


def test_honest_boot_and_its_predecessor_are_accepted() -> None:
    result = chained(HEALTHY.evidence, HONEST)
    assert result.verdict is Verdict.SIMULATED
    assert chain_check(result, HONEST).status is Status.PASS


def test_forged_boot_that_names_a_real_predecessor_fails_alone() -> None:
    forged = after(HEALTHY, "forger", OWN_MACHINE).evidence
    result = chained(HEALTHY.evidence, HONEST, forged, forger=OWN_MACHINE)
    assert result.verdict is Verdict.REJECTED
    assert chain_check(result, HONEST).status is Status.PASS
    assert "two boots" in chain_check(result, forged).reason
    subjects = {check.subject for check in result.checks if check.status is Status.FAIL}
    assert subjects == {f"boot {forged.statement.bootseed.hex()[:16]}"}


def test_genuine_boot_of_other_software_does_not_outweigh_an_accepted_one() -> None:
    machine = HEALTHY.machine.but(domain=Domain(mrtd=b"\x01" * 48))
    other = after(HEALTHY, "forger", machine).evidence
    result = chained(HEALTHY.evidence, HONEST, other)
    assert "MEASUREMENTS" in failed(result)
    assert chain_check(result, HONEST).status is Status.PASS
    assert chain_check(result, other).status is Status.FAIL


def test_boot_without_endorsements_does_not_outweigh_an_accepted_one() -> None:
    bare = replace(after(HEALTHY, "forger", OWN_MACHINE).evidence, collateral=None)
    result = chained(HEALTHY.evidence, HONEST, bare)
    assert chain_check(result, HONEST).status is Status.PASS
    assert chain_check(result, bare).status is Status.FAIL


@pytest.mark.parametrize("forger", [None, OWN_MACHINE])
def test_two_boots_of_one_standing_that_name_one_predecessor_both_fail(
    forger: SimulatedPlatform | None,
) -> None:
    boots = [after(HEALTHY, seed, forger).evidence for seed in ("one", "other")]
    result = chained(HEALTHY.evidence, *boots, forger=forger)
    assert [chain_check(result, boot).status for boot in boots] == [Status.FAIL, Status.FAIL]


@pytest.mark.parametrize("seed", [f"shadow {n}" for n in range(4)])
def test_forged_boot_with_the_predecessors_quote_does_not_take_its_place(seed: str) -> None:
    shadow = replace(Gateway(seed=seed).evidence, quote=HEALTHY.evidence.quote)
    shadow = replace(shadow, collateral=HEALTHY.evidence.collateral)
    result = chained(HEALTHY.evidence, HONEST, shadow)
    assert failed(result) >= {"BOOT-STATEMENT"}
    assert "BOOT-CHAIN" not in failed(result)
    assert chain_check(result, HONEST).status is Status.PASS


def test_forged_boot_in_the_place_of_an_absent_predecessor_is_not_asked() -> None:
    made = Gateway(seed="shadow", platform=HEALTHY.machine)
    shadow = replace(made.evidence, quote=HEALTHY.evidence.quote)
    bundle = make_bundle(
        boots=[shadow, HONEST], collateral=[HEALTHY.machine.collateral()], receipts=[]
    )
    result = HEALTHY.verify(bundle=parse_bundle(bundle.encode()), contents={})
    assert result.verdict is Verdict.REJECTED
    check = chain_check(result, HONEST)
    assert check.status is Status.SKIP
    assert "refuted" in check.reason


def test_predecessor_with_a_swapped_keyset_does_not_fail_its_successor() -> None:
    thief = Impostor(seed="thief", platform=HEALTHY.machine)
    result = chained(replace(HEALTHY.evidence, keyset=thief.keyset), HONEST)
    assert "KEYSET" in failed(result)
    assert chain_check(result, HONEST).status is Status.SKIP


def test_circle_is_blamed_on_the_boots_that_were_forged_for_it() -> None:
    first = EpochLog(Gateway(seed="first"))
    second = continued(first, seed="second")
    third = continued(second, seed="third")
    prev = continued(third).made.evidence.statement.prev
    boots = [one.made.evidence for one in (first, second, third)]
    boots[0] = replace(boots[0], statement=replace(boots[0].statement, prev=prev))
    result = together(first, second, third, boots=boots, contents={})
    assert "circle" in chain_check(result, boots[0]).reason
    assert chain_check(result, boots[1]).status is Status.SKIP
    assert chain_check(result, boots[2]).status is Status.PASS


def test_circle_of_forged_boots_is_blamed_on_all_of_them() -> None:
    first = EpochLog(Gateway(seed="first"))
    second = continued(first, seed="second")
    prev = continued(second).made.evidence.statement.prev
    boots = [one.made.evidence for one in (first, second)]
    boots[0] = replace(boots[0], statement=replace(boots[0].statement, prev=prev))
    boots[1] = replace(boots[1], statement=replace(boots[1].statement, time_claimed=NOW + 1))
    result = together(first, second, boots=boots, contents={})
    assert all("circle" in chain_check(result, boot).reason for boot in boots)
