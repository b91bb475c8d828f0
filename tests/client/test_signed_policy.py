"""Signed policies in the SDK and in `attested call`: refused before anything is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceError, MalformedError, UnavailableError
from attestation.merkle.note_key import NoteKey
from attestation.policy import parse_policy
from attestation.policy.signature import sign_policy
from gateway.cli.local.policy import pin_policy
from gateway.cli.main import main
from gateway.client import Session, load_trust
from tests.policy.test_policy import policy_text
from tests.refusals import refusal
from tests.support.gateways import Stack, closed_port

OURS, THEIRS = (
    NoteKey(name=name, private=Ed25519PrivateKey.from_private_bytes(name.encode() * 8))
    for name in ("ours", "them")
)


def signed(folder: Path, version: str = "1", key: NoteKey = OURS, text: str = "") -> Path:
    path = folder / f"{version}.toml"
    path.write_bytes(f'version = "{version}"\n'.encode() + (text.encode() or policy_text()))
    beside = path.with_name(path.name + ".sig")
    beside.write_text(sign_policy(parse_policy(path.read_bytes()), [key]))
    return path


def test_trust_in_a_policy_that_a_key_signed(tmp_path: Path) -> None:
    trust = load_trust(signed(tmp_path), signers=[THEIRS.vkey, OURS.vkey])
    assert trust.policy.signers == (OURS.vkey,)
    assert load_trust(signed(tmp_path)).policy.signers == ()


def test_policy_that_is_not_authentic_makes_no_trust(tmp_path: Path) -> None:
    path, signers = signed(tmp_path, key=THEIRS), [OURS.vkey]
    assert refusal(load_trust, path, signers=signers, error=EvidenceError) == "policy_signer"
    path = signed(tmp_path)
    path.write_bytes(path.read_bytes() + b"\n")
    assert refusal(load_trust, path, signers=signers, error=EvidenceError) == "policy_digest"
    assert refusal(load_trust, path, signers=["ours"], error=MalformedError) == "vkey"
    assert refusal(load_trust, path, signers=[], error=EvidenceError) == "policy_signer"
    path.with_name("1.toml.sig").unlink()
    assert refusal(load_trust, path, signers=signers, error=UnavailableError) == "policy_unsigned"
    with pytest.raises(FileNotFoundError):
        load_trust(tmp_path / "absent.toml", signers=signers)


def test_session_refuses_an_older_policy_of_the_same_signer_before_it_connects(
    tmp_path: Path,
) -> None:
    mark, url = tmp_path / "mark", f"http://127.0.0.1:{closed_port()}"
    new, old = (
        load_trust(signed(tmp_path, version), signers=[OURS.vkey], high_water=mark)
        for version in ("2", "1")
    )
    assert refusal(Session.connect, url, new, error=UnavailableError) != "policy_unsigned"
    assert refusal(Session.connect, url, old, error=EvidenceError) == "policy_rollback"


def test_call_refuses_a_policy_by_another_key_before_it_connects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("key\n")
    path = signed(tmp_path, key=THEIRS)
    call = ["call", f"http://127.0.0.1:{closed_port()}", "--prompt", "x", "--policy", str(path),
            "--key-file", str(tmp_path / "key"), "--policy-signer"]  # fmt: skip
    assert main([*call, OURS.vkey]) == 10
    assert "not authentic" in capsys.readouterr().err
    assert main([*call, THEIRS.vkey]) == 14


def test_call_under_a_signed_policy_names_who_signed_it(
    plain_stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = signed(tmp_path, text=pin_policy(plain_stack.gateway.boot))
    root = plain_stack.gateway.anchor.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "root.pem").write_bytes(root)
    (tmp_path / "key").write_text(f"{plain_stack.gateway.key}\n")
    call = ["call", plain_stack.gateway.url, "--prompt", "hello", "--policy", str(path),
            "--root", "root.pem", "--key-file", "key", "--policy-signer", OURS.vkey]  # fmt: skip
    assert main([*call, "--out", "left", "--json"]) == 15
    assert json.loads(capsys.readouterr().out)["result"]["policy_signers"] == [OURS.vkey]
