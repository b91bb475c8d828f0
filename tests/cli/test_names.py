"""Names that no file can have, links to such names, and standard input named twice."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.cli.main import main
from attestation.merkle.note_key import NoteKey
from attestation.policy import parse_policy
from attestation.policy.signature import sign_policy
from tests.cli.support import AT, Folder, Stdin

LONG = "a" * 300
"""Longer than any name in a folder may be: looking for it is an error, and not only a "no"."""
KEY = NoteKey(name="ours", private=Ed25519PrivateKey.from_private_bytes(bytes(32)))


@pytest.mark.parametrize(
    "flags", [["--endorsements", LONG], ["--high-water", LONG], ["--policy-signer", LONG]]
)
def test_name_that_is_too_long_is_a_usage_error_that_names_it(
    folder: Folder, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    policy = ["--policy", folder["policy.toml"]]
    assert main(["verify", folder["bundle.json"], *AT, *policy, *flags]) == 2
    seen = capsys.readouterr()
    assert LONG in seen.err
    assert "File name too long" in seen.err
    assert seen.out == ""


@pytest.mark.parametrize("command", [["verify"], ["quote", "x", "--collateral"]])
def test_evidence_of_a_name_that_is_too_long_is_a_usage_error(
    folder: Folder, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main([*command, folder[LONG]]) == 2
    assert f"cannot read {folder[LONG]!a}" in capsys.readouterr().err


def test_policy_whose_signature_could_have_no_name_is_without_one(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = folder.write("p" * 252, folder.gateway.policy_toml().encode())
    asked = ["--policy", policy, "--policy-signer", KEY.vkey]
    assert main(["verify", folder["bundle.json"], *AT, *asked]) == 14
    assert "the policy has no signature" in capsys.readouterr().err


def test_folder_with_a_link_that_cannot_be_followed_is_refused_and_not_passed_over(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    month = folder.path / "month"
    month.mkdir()
    (month / "one.json").write_bytes(folder.gateway.bundle().encode())
    (month / "two.json").symlink_to(LONG)
    assert main(["verify", str(month), *AT]) == 2
    seen = capsys.readouterr()
    assert "holds what cannot be looked at" in seen.err
    assert seen.out == ""


def test_body_behind_a_link_that_cannot_be_followed_is_no_regular_file(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = folder.path / "linked"
    bodies.mkdir()
    (bodies / f"{'0' * 32}.request").symlink_to(LONG)
    assert main(["verify", folder["bundle.json"], *AT, "--contents", str(bodies)]) == 2
    assert "is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["verify", "-", "--policy", "policy.toml", "--policy-signer", "-"],
        ["quote", "-", "--policy", "-"],
        ["quote", "-", "--root", "-"],
        ["quote", "-", "--policy", "policy.toml", "--policy-signer", "-"],
        ["eventlog", "-", "--policy", "policy.toml", "--policy-signer", "-"],
        ["policy", "test", "-", "--policy-signer", "-"],
        ["policy", "lint", "-", "--policy-signer", "-"],
        ["log", "verify", ".", "--bundle", "-", "--policy", "-"],
        ["log", "verify", ".", "--policy", "-", "--endorsements", "-"],
    ],
    ids=" ".join,
)
def test_standard_input_is_no_policy_key_or_root_and_evidence_too(
    folder: Folder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    monkeypatch.chdir(folder.path)
    monkeypatch.setattr(sys, "stdin", Stdin(b"x"))
    assert main(command) == 2
    assert "standard input is named twice" in capsys.readouterr().err
    assert sys.stdin.buffer.read() == b"x"


def test_signature_that_is_a_link_out_of_the_case_file_s_folder_is_not_read(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = folder.write("policy.toml", b'version = "3"\n' + folder.gateway.policy_toml().encode())
    signature = sign_policy(parse_policy(Path(policy).read_bytes()), [KEY]).encode()
    cases = folder.write(
        "cases.toml",
        b'schema = "policy-cases/1"\npolicy = "policy.toml"\n[[cases]]\nname = "one"\n'
        b'bundle = "bundle.json"\nroots = ["root.pem"]\nverdict = "SIMULATED"\n'
        b"at = " + AT[1].encode() + b"\n",
    )
    tried = ["policy", "test", cases, "--policy-signer", KEY.vkey]
    beside = Path(folder.write("policy.toml.sig", signature))
    assert main(tried) == 0
    outside = tmp_path.parent / f"{tmp_path.name}-policy.sig"
    beside.replace(outside)
    beside.symlink_to(outside)
    assert main(tried) == 2
    assert "the case file names 'policy.toml.sig'" in capsys.readouterr().err
