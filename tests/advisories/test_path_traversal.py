"""trustee 74d74ed0: a name out of a request became a path.

Lesson: what names a file is 32 hexadecimal digits and nothing else, whoever says it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.cli.main import main
from attestation.receipt.claims_parser import parse_claims
from attestation.receipt.seal import receipt_id_in
from tests.refusals import refusal
from tests.support.bundles import NOW, Gateway
from tests.tamper.folder import write_evidence
from tests.tamper.folders import folder_of, gateway

GATEWAY = Gateway()
EXCHANGED = GATEWAY.plain()
NAMES = [
    "../../../../etc/passwd", "..", "/etc/passwd", "a" * 31, "a" * 33, "A" * 32, "a" * 30 + "/b",
    "a" * 31 + "\n", "a" * 31 + "\x00", "\uff41" * 32, "%2e%2e%2f" + "a" * 23, "", "." * 32,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_receipt_has_no_other_id_than_hexadecimal_digits(name: str) -> None:
    claims = EXCHANGED.item.receipt.claims.to_json()
    parse_claims(claims)
    assert refusal(parse_claims, {**claims, "jti": name})


@pytest.mark.parametrize("name", NAMES)
def test_id_that_is_looked_up_is_what_is_hexadecimal_in_it(name: str) -> None:
    found = receipt_id_in(name)
    assert found is None or (len(found) == 32 and set(found) <= set("0123456789abcdef"))


def test_bodies_outside_the_folder_are_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = gateway("paths")
    folder = tmp_path / "inner"
    folder.mkdir()
    write_evidence(folder_of(own), folder)
    jti = own.exchanged[0].jti
    (folder / "bodies" / f"{jti}.request").rename(tmp_path / f"{jti}.request")
    (folder / "policy.toml").write_text(own.policy_toml())
    (folder / "root.pem").write_bytes(own.anchor.root_der)
    monkeypatch.chdir(folder)
    arguments = ["verify", "bundle.json", "--policy", "policy.toml", "--root", "root.pem",
                 "--at", str(NOW + 60), "--contents", "bodies"]  # fmt: skip
    assert main(arguments) == 12
    assert main([*arguments, "--receipt", f"../{jti[:-1]}"]) == 2
