"""`attested call`: one verified request, what it prints, leaves and returns."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.bundle import parse_bundle
from attestation.receipt.signing import parse_receipt
from attestation.tdx.endorsed import Endorsed, SignedPart
from attestation.tdx.endorsements import parse_endorsements
from attestation.verifier import HighWater, parse_high_water
from gateway.cli.local.policy import pin_policy
from gateway.cli.main import main
from gateway.client.session import Session
from gateway.engine.scripted import Close, Script
from tests.support.gateways import Stack, closed_port, relay, scripted, standing


@pytest.fixture
def desk(plain_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with policy, root and key, and nothing in the environment."""
    prepare(plain_stack, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEWAY_API_KEY", raising=False)
    return tmp_path


def prepare(stack: Stack, folder: Path) -> None:
    (folder / "policy.toml").write_text(pin_policy(stack.gateway.boot))
    root = stack.gateway.anchor.certificate.public_bytes(Encoding.PEM)
    (folder / "root.pem").write_bytes(root)
    (folder / "key").write_text(f"{stack.gateway.key}\n")


OPENED = {"req", "fwd", "res", "ins"}
GROUNDS = ("--policy", "policy.toml", "--root", "root.pem", "--key-file", "key")


def call(url: str, *arguments: str) -> int:
    return main(["call", url, *GROUNDS, *arguments])


@pytest.mark.parametrize("extra", [(), ("--stream",)], ids=["plain", "stream"])
def test_a_call_prints_the_body_and_leaves_what_an_auditor_verifies(
    plain_stack: Stack,
    desk: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    extra: tuple[str, ...],
) -> None:
    code = call(plain_stack.gateway.url, "--prompt", "hello", "--out", "left", *extra)
    seen = capsysbinary.readouterr()
    assert code == 15
    (body,) = (desk / "left" / "bodies").glob("*.response")
    assert seen.out == body.read_bytes()
    assert b"SIMULATED (exit 15)" in seen.err
    receipt = parse_receipt((desk / "left" / "receipt.jws").read_text())
    assert receipt.claims.jti == body.stem
    assert set(json.loads((desk / "left" / "openings.json").read_bytes())) == OPENED
    assert b"forwarded with 1 change: cache_salt" in seen.err
    grounds = GROUNDS[:4]
    assert main(["verify", "left/bundle.json", *grounds, "--contents", "left/bodies"]) == 15


def test_the_command_that_a_call_prints_verifies_the_nonce_as_well(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(plain_stack.gateway.url, "--prompt", "hello", "--out", "my run", "--json") == 15
    seen = capsys.readouterr()
    document = json.loads(seen.out)
    (nonce,) = (desk / "my run" / "bodies").glob("*.nonce")
    assert nonce.read_text() == f"{document['nonce']}\n"
    assert nonce.stat().st_mode & 0o077 == 0
    (line,) = (line for line in seen.err.splitlines() if line.startswith("again: "))
    command = shlex.split(line.removeprefix("again: "))
    assert command[:2] == ["attested", "verify"]
    assert main([*command[1:], "--json"]) == 15
    result = json.loads(capsys.readouterr().out)
    assert [c["status"] for c in result["checks"] if c["id"] == "NONCE"] == ["pass"]
    nonce.write_text("another-nonce\n")
    assert main(command[1:]) == 10


def remembered(stack: Stack, number: int) -> bytes:
    """A high-water file that has seen endorsements of this number for the stack's platform."""
    collateral = stack.gateway.boot.collateral
    assert collateral is not None
    mark = SignedPart(number=number, issued=4_000_000_000)
    one = Endorsed(
        root=stack.gateway.anchor.name,
        fmspc=bytes.fromhex(parse_endorsements(collateral).fmspc),
        tcb_info=mark,
        qe_identity=mark,
    )
    return HighWater().raised([one]).encode()


def test_a_call_remembers_endorsements_in_the_file_of_verify(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--prompt", "hello", "--out", "left", "--high-water", "seen")
    assert call(plain_stack.gateway.url, *arguments) == 15
    assert "'seen' is new: nothing was seen before" in capsys.readouterr().err
    (entry,) = parse_high_water((desk / "seen").read_bytes()).seen.values()
    assert entry.root == plain_stack.gateway.anchor.name
    before = (desk / "seen").stat().st_ino
    assert main(["verify", "left/bundle.json", *GROUNDS[:4], "--high-water", "seen"]) == 15
    assert call(plain_stack.gateway.url, *arguments[:2], "--out", "again", *arguments[4:]) == 15
    assert (desk / "seen").stat().st_ino == before


def test_a_gateway_with_rolled_back_endorsements_is_refused_in_the_words_of_verify(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = plain_stack.gateway.url
    assert call(url, "--prompt", "hello", "--out", "left") == 15
    (desk / "seen").write_bytes(kept := remembered(plain_stack, 1_000))
    capsys.readouterr()
    arguments = ("--prompt", "hello", "--out", "again", "--high-water", "seen", "--json")
    assert call(url, *arguments) == 11
    seen = capsys.readouterr()
    assert seen.err.endswith("neither key nor request was sent\n")
    assert not (desk / "again").exists()
    verify = ["verify", "left/bundle.json", *GROUNDS[:4], "--high-water", "seen", "--json"]
    assert main(verify) == 11
    told = [
        next(c for c in json.loads(text)["checks"] if c["id"] == "COLLATERAL-FRESH")
        for text in (seen.out, capsys.readouterr().out)
    ]
    assert "endorsements were rolled back" in told[0]["reason"]
    for word in ("status", "reason", "expected", "hint"):
        assert told[0][word] == told[1][word]
    assert (desk / "seen").read_bytes() == kept


@pytest.mark.parametrize(("content", "code"), [(b"{}", 13), (None, 2)])
def test_a_file_that_remembers_nothing_ends_a_call_before_it_begins(
    plain_stack: Stack, desk: Path, content: bytes | None, code: int
) -> None:
    if content is not None:
        (desk / "seen").write_bytes(content)
    name = "seen" if content is not None else ""
    arguments = ("--prompt", "hello", f"--high-water={name}", "--out", "left")
    assert call(plain_stack.gateway.url, *arguments) == code
    assert not (desk / "left").exists()


def test_a_call_waits_until_its_receipt_is_anchored_and_leaves_it_so(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(plain_stack.gateway.url, "--prompt", "hello", "--out", "left", "--json") == 15
    seen = capsys.readouterr()
    document = json.loads(seen.out)
    assert (document["anchored"], document["waiting"]) == (True, None)
    passed = {c["id"] for c in document["result"]["checks"] if c["status"] == "pass"}
    assert passed >= {"LOG-INCLUSION", "LOG-CHECKPOINT", "EPOCH-QUOTE"}
    assert "not anchored" not in seen.err
    bundle = parse_bundle((desk / "left" / "bundle.json").read_bytes())
    assert len(bundle.epochs) == 1
    assert bundle.receipts[0].proof is not None


def test_a_call_that_does_not_wait_is_incomplete_and_says_what_to_do(
    plain_stack: Stack, desk: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    arguments = ("--prompt", "hello", "--out", "left", "--no-wait")
    assert call(plain_stack.gateway.url, *arguments) == 12
    seen = capsysbinary.readouterr()
    assert seen.out == next((desk / "left" / "bodies").glob("*.response")).read_bytes()
    assert b"INCOMPLETE (exit 12)" in seen.err
    jti = parse_receipt((desk / "left" / "receipt.jws").read_text()).claims.jti
    hint = f"GET /v1/receipts/{jti}?wait=anchored&format=bundle"
    assert hint.encode() in seen.err
    later = httpx2.get(
        f"{plain_stack.gateway.url}{hint.removeprefix('GET ')}",
        headers={"authorization": f"Bearer {plain_stack.gateway.key}"},
    )
    (desk / "later.json").write_bytes(later.content)
    assert main(["bundle", "left/bundle.json", "later.json", "-o", "whole.json"]) == 0
    assert main(["verify", "left/bundle.json", *GROUNDS[:4]]) == 12
    assert main(["verify", "whole.json", *GROUNDS[:4], "--contents", "left/bodies"]) == 15


def test_a_policy_may_be_content_with_what_is_not_anchored(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = pin_policy(plain_stack.gateway.boot)
    wish = "require_anchored = true"
    assert wish in policy
    (desk / "policy.toml").write_text(policy.replace(wish, "require_anchored = false"))
    arguments = ("--prompt", "hello", "--out", "left", "--no-wait", "--json")
    assert call(plain_stack.gateway.url, *arguments) == 15
    document = json.loads(capsys.readouterr().out)
    assert (document["anchored"], document["waiting"]) == (False, "not waited for (--no-wait)")


def test_a_wait_that_was_too_short_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with standing(tls="off") as stack:
        prepare(stack, tmp_path)
        monkeypatch.chdir(tmp_path)
        port = int(stack.gateway.url.rpartition(":")[2])

        def muted(data: bytes) -> bytes:
            # What asks for the anchored receipt never arrives.
            return b"" if b"wait=anchored" in data else data

        with relay(stack, to_gateway=muted) as between:
            assert between._port == port
            arguments = ("--prompt", "hello", "--out", "left", "--wait", "0.5")
            assert call(between.url, *arguments) == 12
    assert b"not anchored: not yet, after 0.5 s" in capsysbinary.readouterr().err


def test_an_interrupted_wait_loses_no_answer(
    plain_stack: Stack,
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    def impatient(_session: Session, *, seconds: float) -> None:
        assert seconds == 60
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "anchor", impatient)
    assert call(plain_stack.gateway.url, "--prompt", "hello", "--out", "left") == 12
    seen = capsysbinary.readouterr()
    assert seen.out == next((desk / "left" / "bodies").glob("*.response")).read_bytes()
    assert b"not anchored: the wait was interrupted" in seen.err


@pytest.mark.parametrize("wait", ["0", "-1", "nan", "inf", "soon", "86401"])
def test_a_wait_that_is_no_time_is_refused(
    plain_stack: Stack, desk: Path, wait: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(plain_stack.gateway.url, "--prompt", "hello", f"--wait={wait}") == 2
    assert "--wait" in capsys.readouterr().err


def test_a_fresh_call_has_the_boot_answer_a_nonce_before_anything_is_sent(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--prompt", "hello", "--out", "left", "--json")
    assert call(plain_stack.gateway.url, *arguments, "--fresh") == 15
    seen = capsys.readouterr()
    challenge = json.loads(seen.out)["challenge"]
    assert challenge["verdict"] == "SIMULATED"
    assert "NONCE" in {c["id"] for c in challenge["checks"] if c["subject"] == "challenge"}
    assert seen.err.startswith("fresh: ")
    assert call(plain_stack.gateway.url, *arguments[:2], "--out", "again", "--json") == 15
    assert json.loads(capsys.readouterr().out)["challenge"] is None


def test_a_fresh_call_to_a_boot_that_does_not_answer_the_nonce_sends_nothing(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[bytes] = []

    def same(data: bytes) -> bytes:
        sent.append(data)
        before, found, after = data.partition(b"?nonce=")
        return before + found + b"5a" * 32 + after[64:] if found else data

    with relay(plain_stack, to_gateway=same) as between:
        assert call(between.url, "--prompt", "hello", "--fresh") == 10
    seen = capsys.readouterr()
    assert "NONCE" in seen.err
    assert seen.err.endswith("neither key nor request was sent\n")
    assert b"ag-" not in b"".join(sent)


def test_the_exact_body_of_a_file_is_sent_on_the_route_asked_for(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exact = b'{ "prompt":"a",\n "model" : "stand-in-1" }'
    (desk / "ask.json").write_bytes(exact)
    arguments = ("--body", "ask.json", "--route", "/v1/completions", "--out", "left")
    assert call(plain_stack.gateway.url, *arguments, "--json") == 15
    document = json.loads(capsys.readouterr().out)
    request = desk / "left" / "bodies" / f"{document['receipt_id']}.request"
    assert request.read_bytes() == exact
    assert document["result"]["verdict"] == document["verdict"] == "SIMULATED"
    assert document["status"] == 200


def test_lineage_flags_reach_the_receipt(plain_stack: Stack, desk: Path) -> None:
    call(plain_stack.gateway.url, "--prompt", "a", "--out", "one", "--task-id", "task-1")
    first = parse_receipt((desk / "one" / "receipt.jws").read_text())
    arguments = ("--task-id", "task-1", "--parent", first.claims.jti)
    call(plain_stack.gateway.url, "--prompt", "b", "--out", "two", *arguments)
    second = parse_receipt((desk / "two" / "receipt.jws").read_text())
    assert second.claims.lineage.txn == "task-1"
    assert [parent.digest for parent in second.claims.lineage.parents] == [first.digest]


@pytest.mark.parametrize(
    ("drop", "code"),
    [("--policy", 12), ("--root", 10)],
)
def test_what_is_not_accepted_gets_nothing_and_the_verdicts_code(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str], drop: str, code: int
) -> None:
    at = GROUNDS.index(drop)
    grounds = (*GROUNDS[:at], *GROUNDS[at + 2 :])
    arguments = ["call", plain_stack.gateway.url, *grounds, "--prompt", "hello", "--json"]
    assert main(arguments) == code
    seen = capsys.readouterr()
    assert json.loads(seen.out)["exit_code"] == code
    assert seen.err.endswith("neither key nor request was sent\n")
    assert not list(desk.glob("attested-call-*"))


def test_an_answer_changed_on_the_way_is_not_printed(
    plain_stack: Stack, desk: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with relay(plain_stack, to_client=lambda data: data.replace(b'"Stan', b'"Stam')) as between:
        assert call(between.url, "--prompt", "hello", "--model", "stand-in-1") == 10
    seen = capsysbinary.readouterr()
    assert seen.out == b""
    assert b"RESPONSE-BODY" in seen.err
    assert b"was sent" not in seen.err


def test_a_refusal_is_kept_with_its_receipt_and_is_not_a_success(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--prompt", "hello", "--model", "no-such-model", "--out", "left")
    assert call(plain_stack.gateway.url, *arguments) == 14
    assert "the engine answered with status 404" in capsys.readouterr().err
    assert (desk / "left" / "receipt.jws").exists()


def test_a_wrong_key_is_said_to_be_wrong(
    plain_stack: Stack, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "key").write_text("ag-wrong")
    arguments = ("--prompt", "hello", "--model", "stand-in-1")
    assert call(plain_stack.gateway.url, *arguments) == 14
    assert call(plain_stack.gateway.url, "--prompt", "hello") == 14
    assert "API key" in capsys.readouterr().err


def test_the_key_may_stand_in_the_environment_and_must_stand_somewhere(
    plain_stack: Stack, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["call", plain_stack.gateway.url, *GROUNDS[:4], "--prompt", "hello"]
    assert main(arguments) == 2
    monkeypatch.setenv("GATEWAY_API_KEY", plain_stack.gateway.key)
    assert main([*arguments, "--out", "left"]) == 15


@pytest.mark.parametrize(
    ("url", "arguments", "code"),
    [
        ("http://gateway.example", ("--prompt", "a"), 2),
        ("", ("--prompt", "a", "--route", "/v1/models"), 2),
        ("", ("--prompt", "a", "--body", "b"), 2),
        ("", (), 2),
        ("", ("--body", "absent.json"), 2),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    plain_stack: Stack, desk: Path, url: str, arguments: tuple[str, ...], code: int
) -> None:
    assert call(url or plain_stack.gateway.url, *arguments) == code


def test_nobody_listening_is_unavailable(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"http://127.0.0.1:{closed_port()}", "--prompt", "a") == 14
    assert "refused" in capsys.readouterr().err


def test_a_stream_that_breaks_off_is_kept_and_is_reported_by_its_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    with scripted(Script(writes=(event,), close=Close.NO_LAST_CHUNK)) as (stack, _):
        prepare(stack, tmp_path)
        monkeypatch.chdir(tmp_path)
        arguments = ("--prompt", "a", "--model", "m", "--stream", "--out", "left")
        assert call(stack.gateway.url, *arguments) == 14
    assert b'"error"' in capsysbinary.readouterr().out
    receipt = parse_receipt((tmp_path / "left" / "receipt.jws").read_text())
    assert receipt.claims.response.end == "upstream_error"


@pytest.mark.parametrize(
    "flags",
    [
        ("--body", "-", "--policy", "-"),
        ("--prompt", "x", "--key-file", "-", "--policy", "-"),
        ("--body", "-", "--policy", "policy.toml", "--policy-signer", "-"),
    ],
    ids=" ".join,
)
def test_standard_input_is_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    monkeypatch.setenv("GATEWAY_API_KEY", "k")
    assert main(["call", f"http://127.0.0.1:{closed_port()}", *flags]) == 2
    assert "standard input is named twice" in capsys.readouterr().err
