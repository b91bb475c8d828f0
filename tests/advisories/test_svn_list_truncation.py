"""GHSA-6q6c-vvf9-fj3w: SVN lists were compared pairwise up to the shorter one, so that a list cut
short passed for a patched platform.

Lesson: lengths first.  Python's `zip` falls into the same hole unless it is told to be strict.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import attestation
from attestation.result import Verdict
from gateway.attester.simulated.facts import CPU_SVN, TDX_COMPONENTS, Endorsements, TcbLevel
from tests.support.bundles import Gateway

SOURCES = sorted(Path(attestation.__file__).parent.rglob("*.py"))
PLATFORM = Gateway().machine
OUTDATED = TcbLevel(sgx=bytes(16), tdx=bytes(16), pce_svn=0, status="OutOfDate")


@pytest.mark.parametrize(
    "level",
    [
        TcbLevel(sgx=CPU_SVN[:8]),
        TcbLevel(sgx=b""),
        TcbLevel(tdx=TDX_COMPONENTS[:3]),
        TcbLevel(tdx=b""),
        TcbLevel(sgx=b"", tdx=b"", pce_svn=0),
    ],
)
def test_level_with_a_list_cut_short_never_makes_a_platform_up_to_date(level: TcbLevel) -> None:
    for levels in ((level,), (level, OUTDATED), (OUTDATED, level)):
        made = Gateway(platform=PLATFORM.but(endorsements=Endorsements(levels=levels)))
        made.plain()
        assert made.verify().verdict in (Verdict.REJECTED, Verdict.NOT_ACCEPTED)


def test_level_of_full_length_is_accepted() -> None:
    made = Gateway(platform=PLATFORM.but(endorsements=Endorsements(levels=(TcbLevel(), OUTDATED))))
    made.plain()
    assert made.verify().verdict is Verdict.SIMULATED


def test_every_zip_in_the_verifier_is_strict() -> None:
    loose = [
        f"{path.name}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip"
        if not any(
            keyword.arg == "strict" and ast.unparse(keyword.value) == "True"
            for keyword in node.keywords
        )
    ]
    assert SOURCES
    assert loose == []
