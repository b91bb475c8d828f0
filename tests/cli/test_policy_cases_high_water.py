"""Cases that say what was seen before: endorsements and signed policies older than that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.cli.main import main
from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.merkle.note_key import NoteKey
from attestation.policy import Policy, SignedBy, parse_policy
from attestation.policy.signature import sign_policy
from attestation.policy.toml import toml_pair
from attestation.verifier import HighWater, parse_high_water
from tests.cli.support import AT, Folder
from tests.support.bundles import NOW

KEY = NoteKey(name="ours", private=Ed25519PrivateKey.from_private_bytes(bytes(32)))
ROLLED_BACK: dict[str, Any] = {
    "verdict": "NOT-ACCEPTED",
    "checks": {"COLLATERAL-FRESH": "fail"},
    "failing": ["COLLATERAL-FRESH"],
}


def raised(folder: Folder, by: int) -> bytes:
    """What is remembered after the folder's bundle, with higher evaluation numbers."""
    mark = folder.path / "seen.json"
    main(["verify", folder["bundle.json"], "--root", folder["root.pem"], *AT,
          "--high-water", str(mark)])  # fmt: skip
    plain = mark.read_bytes()
    mark.unlink()
    (entry,) = parse_high_water(plain).seen.values()
    number = entry.tcb_info.number
    higher = plain.replace(f'"number":{number}'.encode(), f'"number":{number + by}'.encode())
    assert by == 0 or higher != plain
    return higher


def case(folder: Folder, *, quote: bool = False, **changes: Any) -> str:
    what: dict[str, Any] = {"bundle": "bundle.json"}
    if quote:
        folder.write("quote.bin", folder.gateway.evidence.quote)
        collateral = folder.gateway.machine.collateral().to_json()
        folder.write("collateral.json", jcs.canonicalize(collateral))
        what = {"quote": "quote.bin", "collateral": "collateral.json"}
    told = {"name": "one", "roots": ["root.pem"], "at": NOW + 60, **what, **changes}
    lines = ['schema = "policy-cases/1"', 'policy = "policy.toml"', "[[cases]]"]
    lines += [toml_pair(key, item) for key, item in told.items()]
    return folder.write("cases.toml", "\n".join(lines).encode())


@pytest.mark.parametrize("quote", [False, True], ids=["bundle", "quote"])
def test_endorsements_older_than_those_seen_before_are_told_apart(
    folder: Folder, quote: bool
) -> None:
    folder.write("low.json", raised(folder, 0))
    high = folder.write("high.json", raised(folder, 1))
    before = Path(high).read_bytes()
    fresh = {
        "verdict": "INCOMPLETE" if quote else "SIMULATED",
        "checks": {"COLLATERAL-FRESH": "pass"},
    }

    def tried(**changes: Any) -> int:
        return main(["policy", "test", case(folder, quote=quote, **changes)])

    assert tried(**fresh) == 0
    assert tried(high_water="low.json", **fresh) == 0
    assert tried(high_water="high.json", **ROLLED_BACK) == 0
    assert tried(high_water="high.json", **fresh) == 10
    assert tried(high_water="low.json", **ROLLED_BACK) == 10
    assert Path(high).read_bytes() == before


def test_mark_that_does_not_parse_is_an_error_of_the_case_file(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("mark.json", b"{}")
    assert main(["policy", "test", case(folder, high_water="mark.json", verdict="SIMULATED")]) == 13
    assert "case 'one': " in capsys.readouterr().err


def test_mark_that_is_not_there_is_not_made(folder: Folder) -> None:
    name = case(folder, high_water="mark.json", verdict="SIMULATED")
    assert main(["policy", "test", name]) == 2
    assert not Path(folder["mark.json"]).exists()


def test_mark_outside_the_folder_is_refused(folder: Folder, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-mark.json"
    outside.write_bytes(HighWater().encode())
    Path(folder["mark.json"]).symlink_to(outside)
    name = case(folder, high_water="mark.json", verdict="SIMULATED")
    assert main(["policy", "test", name]) == 2


def test_signed_policy_older_than_the_mark_is_an_error_where_its_signer_is_asked_for(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = folder.write("policy.toml", b'version = "3"\n' + folder.gateway.policy_toml().encode())
    signature = sign_policy(parse_policy(Path(policy).read_bytes()), [KEY])
    folder.write("policy.toml.sig", signature.encode())
    for version, code in (("2", 0), ("4", 10)):
        one = SignedBy(signer=KEY.vkey, version=version, digest=Digest.of(b""))
        mark = HighWater().after(Policy(digest=one.digest, signatures=(one,)))
        folder.write("mark.json", mark.encode())
        name = case(folder, high_water="mark.json", verdict="SIMULATED")
        assert main(["policy", "test", name, "--policy-signer", KEY.vkey]) == code
        assert main(["policy", "test", name]) == 0
    assert "older" in capsys.readouterr().err
