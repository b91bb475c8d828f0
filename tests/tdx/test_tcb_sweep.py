"""Platforms of every kind, appraised twice: by the product, and by Intel's algorithm anew."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.tdx.dcap import find_refusals
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.facts import (
    CPU_SVN,
    PCE_SVN,
    TDX_COMPONENTS,
    SvnLevel,
    TcbLevel,
)
from tests.tdx import bench
from tests.tdx.second_opinion import Opinion, appraise

PLATFORM = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
)
PART = ("UpToDate", "OutOfDate", "Revoked")
ADVISORIES = st.lists(st.sampled_from([f"INTEL-SA-0000{n}" for n in range(5)]), unique=True).map(
    tuple
)


def near(svns: bytes, *positions: int) -> st.SearchStrategy[bytes]:
    """SVNs that are these, or one more or less in some of the positions."""

    def moved(steps: tuple[int, ...]) -> bytes:
        changed = bytearray(svns)
        for position, step in zip(positions, steps, strict=True):
            changed[position] = max(changed[position] + step, 0)
        return bytes(changed)

    return st.tuples(*[st.sampled_from([-1, 0, 0, 0, 1]) for _ in positions]).map(moved)


SGX = near(CPU_SVN, 0, 5, 6, 15)
TDX = near(TDX_COMPONENTS, 0, 2, 15)
LEVELS = st.lists(
    st.builds(
        TcbLevel,
        sgx=SGX,
        tdx=TDX,
        pce_svn=st.integers(PCE_SVN - 1, PCE_SVN + 1),
        status=st.sampled_from(PLATFORM),
        advisories=ADVISORIES,
    ),
    min_size=1,
    max_size=4,
).map(tuple)
# Intel lists the levels of modules and enclaves with the highest SVN first.
SVN_LEVELS = st.lists(
    st.builds(
        SvnLevel,
        isv_svn=st.integers(3, 7),
        status=st.sampled_from(PART),
        advisories=ADVISORIES,
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda level: level.isv_svn,
).map(lambda levels: tuple(sorted(levels, key=lambda level: -level.isv_svn)))


def machine(svn: bytes, raises: tuple[int, int, int], **facts: Any) -> dict[str, Any]:
    """TEE_TCB_SVN2 is the TCB of now: no module loads that is older than the one at launch."""
    later = bytearray(svn)
    for position, step in zip((0, 1, 2), raises, strict=True):
        later[position] += step
    return {"tee_tcb_svn": svn, "tee_tcb_svn2": bytes(later), **facts}


MACHINES = st.builds(
    machine,
    st.sampled_from([0, 1, 1, 1, 2]).flatmap(
        lambda version: near(bytes((6, version, 3)) + bytes(13), 0, 2, 15)
    ),
    st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 0, 1]), st.integers(0, 1)),
    cpu_svn=SGX,
    pce_svn=st.integers(PCE_SVN - 1, PCE_SVN + 1),
    qe_isv_svn=st.integers(3, 7),
)
ENDORSEMENTS = st.fixed_dictionaries(
    {
        "levels": LEVELS,
        "module_levels": SVN_LEVELS,
        "qe_levels": SVN_LEVELS,
        "module_versions": st.sampled_from([(1,), (1, 2), (2,)]),
    }
)


def told(facts: dict[str, Any], version: int) -> tuple[Opinion, str, set[str]]:
    """The second opinion, and the product's status (or codes) and advisories."""
    one = bench.changed(bench.platform(version), **facts)
    raw, collateral = one.quote(bench.REPORT_DATA), one.collateral()
    opinion = appraise(raw, collateral, bench.NOW)
    found = find_refusals(parse_quote(raw), collateral, bench.NOW, one.anchor)
    if found:
        assert found <= opinion.refusals, (found, opinion)
        return opinion, "", set()
    assert opinion.refusals == set(), opinion
    genuine = bench.verify(one)
    return opinion, genuine.tcb_status, set(genuine.advisory_ids)


@settings(deadline=None, max_examples=60)
@given(facts=MACHINES, endorsements=ENDORSEMENTS)
@pytest.mark.parametrize("version", [4, 5])
def test_two_appraisals_of_any_platform_agree(
    version: int, facts: dict[str, Any], endorsements: dict[str, Any]
) -> None:
    opinion, status, advisories = told({"machine": facts, "endorsements": endorsements}, version)
    if not opinion.refusals:
        assert status == opinion.status
        assert advisories == opinion.advisories


@pytest.mark.parametrize("now", PLATFORM[:-1])
@pytest.mark.parametrize("launch", PLATFORM[:-1])
@pytest.mark.parametrize("module", ["UpToDate", "OutOfDate"])
def test_two_appraisals_agree_on_a_domain_whose_module_was_renewed(
    launch: str, now: str, module: str
) -> None:
    svn = bytes((6, 1, 2)) + bytes(13)
    levels = (
        TcbLevel(status=now, advisories=("INTEL-SA-00001",)),
        TcbLevel(tdx=bytes((5, 0, 2)) + bytes(13), status=launch, advisories=("INTEL-SA-00002",)),
    )
    modules = (SvnLevel(isv_svn=7), SvnLevel(isv_svn=6, status=module))
    facts = {
        "machine": machine(svn, (1, 0, 1)),
        "endorsements": {"levels": levels, "module_levels": modules},
    }
    opinion, status, advisories = told(facts, 5)
    assert (status, advisories) == (opinion.status, opinion.advisories)
    old = "OutOfDate" in launch or module == "OutOfDate"
    assert ("Relaunch" in status) is (old and "OutOfDate" not in now)
