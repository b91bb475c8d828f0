"""`attested pin` of a running gateway: the channel, freshness, and what is not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import UnavailableError
from attestation.policy import parse_policy
from attestation.verifier import ChallengeEvidence
from gateway.cli.main import main
from gateway.client import evidence
from gateway.client.endpoint import Endpoint
from tests.support.gateways import Stack, closed_port, relay


@pytest.fixture
def root(stack: Stack, tmp_path: Path) -> list[str]:
    return rooted(stack, tmp_path)


def rooted(stack: Stack, folder: Path) -> list[str]:
    path = folder / "root.pem"
    path.write_bytes(stack.gateway.anchor.certificate.public_bytes(Encoding.PEM))
    return ["--root", str(path)]


def test_policy_pinned_from_a_gateway_lets_a_call_through(
    stack: Stack, root: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "policy.toml"
    assert main(["pin", stack.gateway.url, *root, "--platform", "here", "-o", str(out)]) == 15
    text = out.read_text("utf-8")
    assert f"# From:     {stack.gateway.url}\n" in text
    assert "# Channel: TLS ends at key " in text
    assert "# Freshness: this boot was quoted over a nonce" in text
    assert text.index("# Freshness") < text.index("# NOT checked")
    (tmp_path / "key").write_text(stack.gateway.key)
    grounds = ["--policy", str(out), *root, "--key-file", str(tmp_path / "key")]
    folder = str(tmp_path / "left")
    assert main(["call", stack.gateway.url, *grounds, "--prompt", "hi", "--out", folder]) == 15


def test_gateway_without_a_key_of_its_own_leaves_the_channel_unproved(
    plain_stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", plain_stack.gateway.url, *rooted(plain_stack, tmp_path)]) == 15
    text = capsys.readouterr().out
    assert text.index("# NOT checked") < text.index("# Channel: confidentiality of the channel")
    assert parse_policy(text.encode()).platform.ppid is None


def test_relay_that_ends_tls_is_refused(
    stack: Stack, plain_stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forwarded = answer(evidence_of(stack))
    with relay(plain_stack, to_client=lambda _: forwarded) as between:
        assert main(["pin", between.url, *rooted(stack, tmp_path)]) == 10
    assert "this connection is not TLS" in capsys.readouterr().err


def evidence_of(stack: Stack) -> bytes:
    found = evidence.fetch_evidence(Endpoint(origin=stack.gateway.url))
    return found.bundle.encode()


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body


def test_platform_that_gives_no_quote_now_leaves_freshness_unproved(
    plain_stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> ChallengeEvidence:
        raise UnavailableError("no quote now", code="evidence")

    monkeypatch.setattr(evidence, "fetch_challenge", refuse)
    assert main(["pin", plain_stack.gateway.url, *rooted(plain_stack, tmp_path)]) == 15
    text = capsys.readouterr().out
    assert text.index("# NOT checked") < text.index("# Freshness: the gateway had no quote")


def test_answer_to_another_nonce_is_refuted(
    plain_stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fetch = evidence.fetch_challenge

    def replayed(endpoint: Endpoint, nonce: bytes, *rest: object) -> ChallengeEvidence:
        return fetch(endpoint, bytes(len(nonce)), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(evidence, "fetch_challenge", replayed)
    assert main(["pin", plain_stack.gateway.url, *rooted(plain_stack, tmp_path)]) == 10
    assert "answer to a nonce is refuted: NONCE" in capsys.readouterr().err


def test_quote_over_a_nonce_that_nobody_can_judge_shows_no_freshness(
    plain_stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without the root the quotes are refuted; the boot's own checks say so, and nothing is pinned.
    assert main(["pin", plain_stack.gateway.url]) == 10
    assert "nothing was pinned" in capsys.readouterr().err


def test_gateway_that_does_not_answer_is_unavailable() -> None:
    assert main(["pin", f"http://127.0.0.1:{closed_port()}"]) == 14


@pytest.mark.parametrize("url", ["http://gateway.example", "https://user:secret@gateway.example"])
def test_address_that_must_not_be_used_is_refused_and_not_repeated(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", url]) == 2
    assert "secret" not in capsys.readouterr().err


def test_files_are_pinned_by_the_same_command(
    stack: Stack, root: list[str], tmp_path: Path
) -> None:
    (tmp_path / "bundle.json").write_bytes(evidence_of(stack))
    assert main(["pin", str(tmp_path / "bundle.json"), *root]) == 15
