"""Evidence of real machines that must be refused, each with a reason of its own.

Needs the vectors; without them every case is skipped, visibly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attestation.cli.main import main
from tests import vectors_path
from tests.cli.support import printed

POLICY = str(Path(__file__).parents[2] / "examples" / "policy-intel-quote.toml")


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A quote, endorsements, an instant, and how they are refused: everything a reader sees."""

    quote: str
    collateral: str
    at: int
    exit_code: int = 11
    verdict: str = "NOT-ACCEPTED"
    checks: tuple[str, ...]
    reason: str
    observed: str
    hint: str


DEBUG = Refused(
    quote="confidential-containers-trustee/quote-12b401a8.bin",
    collateral="50806f000000-20230618-eval15-e8d199.json",
    at=1_687_939_438,
    checks=("TD-ATTRIBUTES",),
    reason="the trust domain is open to a debugger",
    observed="Debug mode is enabled",
    hint="no policy should accept it",
)
SEPT_VE = Refused(
    quote="confidential-containers-trustee/quote-a187b0da.bin",
    collateral="00806f050000-20250121-eval17-9e92f6.json",
    at=1_738_756_623,
    checks=("TD-ATTRIBUTES",),
    reason="the host can take pages away from the trust domain unnoticed",
    observed="SEPT_VE_DISABLE is not enabled",
    hint="configure the guest with SEPT_VE_DISABLE",
)
SEPT_VE_TOO = Refused(
    quote="datachainlab-zkdcap/quote-94d26a4a.bin",
    collateral=SEPT_VE.collateral,
    at=SEPT_VE.at,
    checks=SEPT_VE.checks,
    reason=SEPT_VE.reason,
    observed=SEPT_VE.observed,
    hint=SEPT_VE.hint,
)
SERVICE = Refused(
    quote="automata-network-automata-dcap-attestation/quote-d0010db6.bin",
    collateral="90c06f000000-20250605-eval17-2a61a7.json",
    at=1_750_357_898,
    checks=("TD-ATTRIBUTES",),
    reason="a service domain is bound to this one",
    observed="Invalid MR service TD",
    hint="can move it to another platform",
)
STALE = Refused(
    quote="Phala-Network-dcap-qvl/quote-f1c85033.bin",
    collateral="b0c06f000000-20250619-eval17-7404ef.json",
    at=1_787_894_484,
    checks=("COLLATERAL-FRESH",),
    reason="part of the endorsements had run out at the instant asked for",
    observed="a revocation list that held until 2026-04-03T11:21:57Z, asked for at 2026-08-28",
    hint="verify at the time the evidence was held, or fetch current collateral",
)
ROOT = Refused(
    quote="cc-api-cc-trusted-api/quote-3f49cfeb.bin",
    collateral="90c06f000000-20260112-eval18-36dc00.json",
    at=1_769_529_299,
    exit_code=10,
    verdict="REJECTED",
    checks=("QUOTE-GENUINE",),
    reason="the PCK certificate chain does not lead to the root that was asked for",
    observed="a chain under another root",
    hint="give its root with --root",
)
NO_LEVEL = Refused(
    quote="Phala-Network-dcap-qvl/quote-4c453ea4.bin",
    collateral=ROOT.collateral,
    at=ROOT.at,
    checks=("TCB-STATUS",),
    reason="the platform is older than every TCB level that Intel lists",
    observed="No matching TCB level found",
    hint="update the platform's firmware",
)
OUT_OF_DATE = Refused(
    quote=STALE.quote,
    collateral="b0c06f000000-20260813-eval20-82e19a.json",
    at=STALE.at,
    checks=("TCB-STATUS", "TCB-ADVISORIES"),
    reason="the platform is OutOfDate",
    observed="OutOfDate, TCB date 2025-05-14T00:00:00Z",
    hint="update firmware and microcode, or accept this status in [tdx] tcb_status",
)
REFUSED = {
    "debug": DEBUG,
    "sept-ve": SEPT_VE,
    "sept-ve-too": SEPT_VE_TOO,
    "service domain": SERVICE,
    "stale": STALE,
    "root": ROOT,
    "no level": NO_LEVEL,
    "out of date": OUT_OF_DATE,
}


def quote_command(folder: Path, one: Refused) -> int:
    where = ["--collateral", str(folder / "_collateral" / one.collateral), "--at", str(one.at)]
    return main(["quote", str(folder / one.quote), *where, "--policy", POLICY, "--json"])


def not_passed(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in value["checks"] if one["status"] not in ("pass", "skip")]


@pytest.mark.parametrize("name", REFUSED)
def test_real_quote_is_refused_for_the_one_thing_that_is_wrong(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = REFUSED[name]
    assert quote_command(vectors_path.need("tdx"), one) == one.exit_code
    value = printed(capsys)
    assert value["verdict"] == one.verdict
    found = not_passed(value)
    assert tuple(check["id"] for check in found) == one.checks
    assert {check["fault"] for check in found} == {one.verdict}
    assert found[0]["reason"] == one.reason
    assert found[0]["expected"]
    assert one.observed in found[0]["observed"]
    assert one.hint in found[0]["hint"]


def test_reasons_are_told_apart() -> None:
    assert len({one.reason for one in REFUSED.values()}) == len(REFUSED) - 1


def test_real_platform_that_is_out_of_date_is_told_its_four_advisories(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quote_command(vectors_path.need("tdx"), OUT_OF_DATE)
    advisories = not_passed(printed(capsys))[1]
    numbers = ("01192", "01245", "01312", "01313")
    assert advisories["observed"] == ", ".join(f"INTEL-SA-{number}" for number in numbers)


@pytest.mark.parametrize("log", ["tdx-lite-getquote.json", "eventlog-1d0342e3.json"])
def test_real_log_that_does_not_lead_to_rtmr3_is_refused_in_that_register_alone(
    log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = vectors_path.need("tdx") / "Dstack-TEE-dstack"
    quote = str(folder / "quote-1d0342e3.bin")
    assert main(["eventlog", str(folder / log), "--quote", quote, "--json"]) == 10
    (shown,) = printed(capsys)["logs"]
    standings = [one["standing"] for one in shown["registers"]]
    assert standings == ["match", "match", "match", "mismatch"]
    assert shown["quote"]["intel_root"] is True
    assert shown["registers"][3]["explanation"].startswith("the log states no digest for 9 of 9")
