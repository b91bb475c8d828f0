"""A quote that Intel hardware signed, judged at a stated time (docs/verifying.md, "A real quote").

Needs the vectors; without them every case is skipped, visibly.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.bundle import BootEvidence, make_bundle
from attestation.cli.main import main
from attestation.policy import Policy, parse_policy
from attestation.result import AttestationResult, Verdict
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.collateral import Collateral, parse_dcap_collateral
from attestation.tdx.quote import canonical_quote
from attestation.verifier import verify, verify_raw_quote
from tests.support.bundles import Gateway, failed, the_check

Vectors = Callable[[str], Path]

EXAMPLES = Path(__file__).parents[2] / "examples"
POLICY = (EXAMPLES / "policy-intel-quote.toml").read_text(encoding="utf-8")
QUOTE = "Phala-Network-dcap-qvl/quote-f1c85033.bin"
THEN = "_collateral/b0c06f000000-20250619-eval17-7404ef.json"
LATER = "_collateral/b0c06f000000-20260813-eval20-82e19a.json"
AT_THEN = 1_750_975_090
AT_LATER = 1_787_894_484


def collateral(folder: Path, name: str) -> Collateral:
    return parse_dcap_collateral((folder / name).read_bytes())


def judged(
    folder: Path, policy: Policy | None, *, quote: str = QUOTE, name: str = THEN, at: int = AT_THEN
) -> AttestationResult:
    data = (folder / quote).read_bytes()
    return verify_raw_quote(data, collateral(folder, name), policy, at, [INTEL_ANCHOR])


def test_real_quote_with_pinned_measurements_is_accepted(vectors: Vectors) -> None:
    result = judged(vectors("tdx"), parse_policy(POLICY.encode()))
    assert result.verdict is Verdict.ACCEPTED
    assert result.trust_domains == {"intel"}
    result.require_accepted()


def test_command_accepts_the_real_quote(
    vectors: Vectors, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = vectors("tdx")
    arguments = ["quote", str(folder / QUOTE), "--collateral", str(folder / THEN)]
    arguments += ["--policy", str(EXAMPLES / "policy-intel-quote.toml"), "--at", str(AT_THEN)]
    assert main(arguments) == 0
    assert "ACCEPTED (exit 0)" in capsys.readouterr().out


PINNED = re.findall(r'^(\w+) = (\[?"[0-9a-fx]{6,}"\]?)$', POLICY, flags=re.MULTILINE)


def test_the_example_pins_what_it_says() -> None:
    assert [key for key, _ in PINNED] == [
        "attributes",
        "xfam",
        "mrseam",
        "ppid",
        "fmspc",
        "mrtd",
        "rtmr0",
        "rtmr1",
        "rtmr2",
        "rtmr3",
        "mrconfigid",
    ]


@pytest.mark.parametrize(("key", "value"), PINNED)
def test_each_pinned_value_counts(vectors: Vectors, key: str, value: str) -> None:
    digit = value.rindex('"') - 1
    other = value[:digit] + ("1" if value[digit] != "1" else "2") + value[digit + 1 :]
    policy = parse_policy(POLICY.replace(f"{key} = {value}", f"{key} = {other}").encode())
    result = judged(vectors("tdx"), policy)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert len(failed(result)) == 1


def test_higher_evaluation_number_or_younger_endorsements_can_be_demanded(
    vectors: Vectors,
) -> None:
    for old, new in (
        ("min_tcb_evaluation_number = 17", "min_tcb_evaluation_number = 18"),
        ("max_age_days = 30", "max_age_days = 1"),
    ):
        result = judged(vectors("tdx"), parse_policy(POLICY.replace(old, new).encode()))
        assert result.verdict is Verdict.NOT_ACCEPTED
        assert failed(result) == {"COLLATERAL-FRESH"}


def test_the_same_quote_is_out_of_date_a_year_later(vectors: Vectors) -> None:
    result = judged(vectors("tdx"), parse_policy(POLICY.encode()), name=LATER, at=AT_LATER)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"TCB-STATUS", "TCB-ADVISORIES"}
    assert "INTEL-SA-01192" in the_check(result, "TCB-ADVISORIES").observed


def test_out_of_date_quote_can_be_accepted_openly_and_for_a_time(vectors: Vectors) -> None:
    ids = ("01192", "01245", "01312", "01313")
    rows = ", ".join(f'{{ id = "INTEL-SA-{id_}", until = 2026-12-31 }}' for id_ in ids)
    text = POLICY.replace(
        'tcb_status = ["UpToDate"]',
        'tcb_status = [{ status = "OutOfDate", until = 2026-12-31 }]\n' + f"advisories = [{rows}]",
    )
    policy = parse_policy(text.encode())
    assert judged(vectors("tdx"), policy, name=LATER, at=AT_LATER).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("at", [1_751_708_418, 1_750_241_763])
def test_endorsements_hold_in_their_own_time_only(vectors: Vectors, at: int) -> None:
    result = judged(vectors("tdx"), parse_policy(POLICY.encode()), at=at)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"COLLATERAL-FRESH"}


def test_without_a_policy_the_real_quote_is_incomplete(vectors: Vectors) -> None:
    assert judged(vectors("tdx"), None).verdict is Verdict.INCOMPLETE


def test_simulated_root_does_not_vouch_for_a_real_quote(vectors: Vectors) -> None:
    folder = vectors("tdx")
    result = verify_raw_quote(
        (folder / QUOTE).read_bytes(),
        collateral(folder, THEN),
        parse_policy(POLICY.encode()),
        AT_THEN,
        [Gateway().anchor],
    )
    assert result.verdict is Verdict.REJECTED


def test_real_quote_for_another_statement_is_rejected_in_a_bundle(vectors: Vectors) -> None:
    folder = vectors("tdx")
    made = Gateway()
    made.plain()
    boot = BootEvidence(
        statement=made.evidence.statement,
        keyset=made.keyset,
        quote=canonical_quote((folder / QUOTE).read_bytes()),
        event_log=made.evidence.event_log,
        collateral=collateral(folder, THEN).digest,
    )
    bundle = make_bundle(
        boots=[boot],
        collateral=[collateral(folder, THEN)],
        receipts=[made.exchanged[0].item],
    )
    result = verify(bundle, parse_policy(POLICY.encode()), AT_THEN, [INTEL_ANCHOR], {})
    assert result.verdict is Verdict.REJECTED
    assert {"BOOT-STATEMENT", "EVENT-LOG", "RECEIPT-BINDING"} <= failed(result)
