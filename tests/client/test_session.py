"""Sessions: whom they accept, what they notice on the way, what they leave for an auditor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx2
import openai
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.bundle import parse_bundle
from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UsageError,
)
from attestation.policy import NO_POLICY
from attestation.receipt.claims import End
from attestation.result import AttestationResult, Status, Verdict
from attestation.tdx.anchor import INTEL_ANCHOR
from gateway.cli.local.policy import pin_policy
from gateway.client.call import Call, Ended
from gateway.client.endpoint import parse_endpoint
from gateway.client.evidence import CHANNEL_OPEN, check_channel, fetch_evidence
from gateway.client.judge import EvidenceJudge
from gateway.client.recorder import Recorder
from gateway.client.session import Session
from gateway.client.transport import ReceiptTransport
from gateway.engine.scripted import Close, Script
from tests.support.gateways import MODEL, Stack, closed_port, relay, scripted, standing

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}).encode()
STREAM = BODY.replace(b'{"model"', b'{"stream":true,"model"')


def post(session: Session, key: str, body: bytes = BODY) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    with session.http_client(base_url=session.origin, headers=headers) as client:
        return client.post(CHAT, content=body)


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    assert len(old) == len(new)
    return lambda data: data.replace(old, new)


def test_a_gateway_is_accepted_before_anything_is_sent(stack: Stack) -> None:
    session = stack.session()
    channel = [check for check in session.result.checks if check.id == "CHANNEL"]
    assert [check.status for check in channel] == [Status.PASS]
    assert session.calls == ()


def test_without_tls_the_session_says_that_the_channel_is_not_proved(plain_stack: Stack) -> None:
    session = plain_stack.session()
    assert CHANNEL_OPEN in session.result.not_proved
    post(session, plain_stack.gateway.key)
    result = session.calls[0].result
    assert result is not None
    assert [note for note in result.not_proved if "channel" in note] == [CHANNEL_OPEN]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda trust: replace(trust, anchors=(INTEL_ANCHOR,)), EvidenceError),
        (lambda trust: replace(trust, policy=NO_POLICY), PolicyError),
        (lambda trust: replace(trust, gate=AttestationResult.require_accepted), PolicyError),
    ],
    ids=["another-root", "no-policy", "simulated-is-not-enough"],
)
def test_a_gateway_that_is_not_accepted_gets_nothing(
    stack: Stack, change: Callable[..., object], error: type[AttestationError]
) -> None:
    trust = change(stack.trust)
    with pytest.raises(error):
        Session.connect(stack.gateway.url, trust)  # type: ignore[arg-type]


def test_a_gateway_with_other_settings_than_the_policy_pins_is_not_accepted(
    stack: Stack, plain_stack: Stack
) -> None:
    mixed = replace(plain_stack.trust, anchors=stack.trust.anchors)
    with pytest.raises(PolicyError, match="MEASUREMENTS"):
        Session.connect(stack.gateway.url, mixed)


def test_nobody_listening_is_unavailable(stack: Stack) -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"):
        Session.connect(f"http://127.0.0.1:{closed_port()}", stack.trust)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (Script(writes=(b"{}",), close=Close.LENGTH, status=404), UnavailableError),
        (Script(writes=(b"{}",), close=Close.LENGTH), MalformedError),
    ],
)
def test_what_is_no_attested_gateway_is_said_to_be_none(
    stack: Stack, script: Script, error: type[AttestationError]
) -> None:
    with scripted(script) as (_, engine), pytest.raises(error):
        Session.connect(engine.address, stack.trust)


def test_tls_that_ends_somewhere_on_the_way_is_noticed(stack: Stack) -> None:
    evidence = fetch_evidence(parse_endpoint(stack.gateway.url))
    with pytest.raises(EvidenceError, match="is not TLS"):
        check_channel(parse_endpoint("http://127.0.0.1:1"), None, evidence.boot.keyset.tls_spki)


def test_evidence_relayed_from_another_gateway_is_refused_by_its_tls_key(stack: Stack) -> None:
    # The other gateway hands out this one's evidence, as a relay attack would.
    with standing() as other:
        genuine = fetch_evidence(parse_endpoint(stack.gateway.url))
        relayed = replace(genuine, peer=fetch_evidence(parse_endpoint(other.gateway.url)).peer)
        with pytest.raises(EvidenceError, match="CHANNEL"):
            check_channel(
                parse_endpoint(other.gateway.url), relayed.peer, relayed.boot.keyset.tls_spki
            )


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"Stan', b'"Stam'),
        (b'"Stand-in', b'"Stand-on'),
        (b"x-receipt: ey", b"x-receipt: Ey"),
        (b": receipt ey", b": receipt Ey"),
        (b"x-receipt: ey", b"y-receipt: ey"),
        (b": receipt ey", b": Receipt ey"),
        (b"x-receipt-openings: ey", b"y-receipt-openings: ey"),
    ],
)
def test_whatever_is_changed_in_an_answer_is_noticed(
    plain_stack: Stack, body: bytes, old: bytes, new: bytes
) -> None:
    touched: list[bytes] = []

    def change(data: bytes) -> bytes:
        changed = data.replace(old, new)
        if changed != data:
            touched.append(changed)
        return changed

    with relay(plain_stack) as between:
        session = plain_stack.session(between.url)
        between.to_client = change
        key = plain_stack.gateway.key
        if _is_there(old, body):
            with pytest.raises((EvidenceError, MalformedError, PolicyError)):
                post(session, key, body)
            assert touched
            assert session.recorder.failure is not None
        else:
            post(session, key, body)
            assert not touched


def _is_there(old: bytes, body: bytes) -> bool:
    if body is STREAM:
        return old.startswith((b":", b'"Stan')) and b"d-in" not in old
    return not old.startswith(b":")


def test_a_request_changed_on_the_way_is_noticed(plain_stack: Stack) -> None:
    with relay(plain_stack, to_gateway=replaced(b"hello", b"hullo")) as between:
        session = plain_stack.session(between.url)
        with pytest.raises(EvidenceError, match="REQUEST-BODY"):
            post(session, plain_stack.gateway.key)


def test_an_old_answer_played_again_is_noticed_by_its_nonce(plain_stack: Stack) -> None:
    recorded: list[bytes] = []

    def replay(data: bytes) -> bytes:
        recorded.append(data)
        return recorded[0]

    with relay(plain_stack) as between:
        session = plain_stack.session(between.url)
        between.to_client = replay
        post(session, plain_stack.gateway.key)
        with pytest.raises(EvidenceError, match="NONCE"):
            post(session, plain_stack.gateway.key)


def test_a_boot_answers_a_nonce_of_the_sessions(stack: Stack, plain_stack: Stack) -> None:
    for running in (stack, plain_stack):
        session = running.session()
        result = session.challenge()
        assert result.verdict is Verdict.SIMULATED
        subjects = {check.subject for check in result.checks if check.status is Status.PASS}
        assert "challenge" in subjects
        post(session, running.gateway.key)
        assert session.anchor().complete
        assert session.calls[0].verdict is Verdict.SIMULATED


def test_every_challenge_has_a_nonce_of_its_own(plain_stack: Stack) -> None:
    asked: list[bytes] = []

    def listen(data: bytes) -> bytes:
        asked.extend(line for line in data.split(b"\r\n") if b"?nonce=" in line)
        assert b"authorization" not in data.lower()
        return data

    with relay(plain_stack, to_gateway=listen) as between:
        session = plain_stack.session(between.url)
        session.challenge()
        session.challenge()
    assert len(asked) == len(set(asked)) == 2


def test_a_challenge_answered_with_an_earlier_answer_ends_the_session(plain_stack: Stack) -> None:
    first = b"?nonce=" + b"5a" * 32

    def same(data: bytes) -> bytes:
        before, found, after = data.partition(b"?nonce=")
        return before + first + after[64:] if found else data

    with relay(plain_stack, to_gateway=same) as between:
        session = plain_stack.session(between.url)
        with pytest.raises(EvidenceError, match="NONCE"):
            session.challenge()
        with pytest.raises(EvidenceError, match="this session has ended"):
            post(session, plain_stack.gateway.key)


def test_another_gateway_cannot_answer_for_the_boot_that_was_accepted(plain_stack: Stack) -> None:
    with standing(tls="off") as other, relay(plain_stack) as between:
        session = plain_stack.session(between.url)
        other_port = int(other.gateway.url.rpartition(":")[2])
        between._port = other_port
        with pytest.raises(EvidenceError):
            session.challenge()


def test_a_challenge_over_tls_goes_to_the_attested_key_only(stack: Stack) -> None:
    session = stack.session()
    with standing() as other:
        session._endpoint = parse_endpoint(other.gateway.url)
        with pytest.raises(EvidenceError, match="CHANNEL"):
            session.challenge()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (b"503 Service Unavailable", b"{}", UnavailableError),
        (b"200 OK", b"{}", MalformedError),
        (b"200 OK", b'{"challenge":null}', MalformedError),
        (b"200 OK", b"not json", MalformedError),
    ],
)
def test_an_answer_that_is_no_challenge_is_refused(
    plain_stack: Stack, status: bytes, body: bytes, error: type[AttestationError]
) -> None:
    length = str(len(body)).encode()
    head = b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: " + length
    with relay(plain_stack) as between:
        session = plain_stack.session(between.url)
        between.to_client = lambda data: head + b"\r\n\r\n" + body if data else data
        with pytest.raises(error):
            session.challenge()
        assert (session.recorder.failure is None) is (error is UnavailableError)


def test_evidence_of_another_boot_proves_nothing_about_these_receipts(plain_stack: Stack) -> None:
    with standing(tls="off") as other:
        endpoint = parse_endpoint(other.gateway.url)
        evidence = fetch_evidence(endpoint)
        channel = check_channel(endpoint, evidence.peer, ())
        judge = EvidenceJudge(evidence, channel, other.trust, lambda: 0.0)
        recorder = Recorder(judge)
        headers = {
            "authorization": f"Bearer {plain_stack.gateway.key}",
            "content-type": "application/json",
        }
        with (
            httpx2.Client(
                transport=ReceiptTransport(recorder=recorder), base_url=plain_stack.gateway.url
            ) as client,
            pytest.raises((EvidenceError, PolicyError)),
        ):
            client.post(CHAT, content=BODY, headers=headers)
        assert recorder.failure is not None


def test_a_restarted_gateway_is_refused_by_its_tls_key_before_a_byte_is_sent(
    stack: Stack,
) -> None:
    session = stack.session()
    with standing() as restarted:
        transport = ReceiptTransport(
            httpx2.HTTPTransport(verify=session.tls_context()), recorder=Recorder(Never())
        )
        with (
            httpx2.Client(transport=transport, base_url=restarted.gateway.url) as client,
            pytest.raises(EvidenceError, match="CHANNEL"),
        ):
            client.post(CHAT, content=BODY)


def test_a_session_sends_nothing_to_another_gateway_even_after_a_redirect(
    stack: Stack,
) -> None:
    session = stack.session()
    moved = b"HTTP/1.1 307 Moved\r\nlocation: %b/v1/x\r\ncontent-length: 0\r\n\r\n"
    with standing() as other:
        with (
            session.http_client() as client,
            pytest.raises(UsageError, match="one gateway only"),
        ):
            client.post(f"{other.gateway.url}{CHAT}", content=BODY)
        script = Script(writes=(moved % other.gateway.url.encode(),), close=Close.RAW)
        with scripted(script) as (_, engine):
            recorder = Recorder(Never(), origin=engine.address)
            with (
                httpx2.Client(
                    transport=ReceiptTransport(recorder=recorder), follow_redirects=True
                ) as client,
                pytest.raises(UsageError, match="one gateway only"),
            ):
                client.post(f"{engine.address}{CHAT}", content=BODY)


def test_receipts_of_a_gateway_that_was_restarted_stay_as_they_are_and_it_is_said(
    stack: Stack,
) -> None:
    session = stack.session()
    post(session, stack.gateway.key)
    before = session.calls
    with standing() as restarted:
        session._endpoint = parse_endpoint(restarted.gateway.url)
        report = session.anchor()
    assert [*report.left.values()] == [
        "the connection ends at another key: the gateway was restarted, or is another"
    ]
    assert session.calls == before == session.unanchored


def test_receipts_of_a_gateway_that_is_gone_stay_as_they_are_and_are_exported(
    tmp_path: Path,
) -> None:
    with standing() as stack:
        session = stack.session()
        post(session, stack.gateway.key)
        before = session.calls
    path = session.export(tmp_path / "run")
    assert session.calls == before == session.unanchored
    assert len(parse_bundle(path.read_bytes()).receipts) == 1


class Never:
    """A judge who is never asked."""

    def judge(self, call: Call) -> AttestationResult:
        raise AssertionError(call.path)


def test_a_unix_socket_is_used_for_everything(plain_stack: Stack, tmp_path: Path) -> None:
    socket = tmp_path / "gateway.sock"
    with relay(plain_stack, uds=socket):
        session = plain_stack.session(f"unix:{socket}")
        post(session, plain_stack.gateway.key)
        assert session.calls[0].result is not None


def test_a_nonce_that_is_none_is_refused_here(stack: Stack) -> None:
    session = stack.session()
    with (
        session.http_client(base_url=session.origin) as client,
        pytest.raises(UsageError, match="X-Receipt-Nonce"),
    ):
        client.post(CHAT, content=BODY, headers={"x-receipt-nonce": "no"})


def test_a_stream_left_early_gets_its_receipt_afterwards() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    with scripted(Script(writes=(event,), close=Close.HANG)) as (stack, engine):
        session = stack.session()
        headers = {
            "authorization": f"Bearer {stack.gateway.key}",
            "content-type": "application/json",
        }
        with (
            session.http_client(base_url=session.origin, headers=headers) as client,
            client.stream("POST", CHAT, content=STREAM) as answer,
        ):
            assert next(answer.iter_raw()) == event
        assert session.calls[0].ended is Ended.LEFT
        stack.loop.call(engine.left.wait())
        assert session.anchor().complete
        (call,) = session.calls
        receipt = call.parse_receipt()
        assert receipt is not None
        assert receipt.claims.response.end is End.CLIENT_ABORT
        assert call.result is not None


def test_an_error_inside_a_stream_reaches_the_sdk_with_its_receipt_checked() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    with scripted(Script(writes=(event,), close=Close.NO_LAST_CHUNK)) as (stack, _):
        session = stack.session()
        with openai.OpenAI(
            base_url=session.base_url, api_key=stack.gateway.key, http_client=session.http_client()
        ) as client:
            chunks = client.chat.completions.create(model=MODEL, messages=[], stream=True)
            seen: list[object] = []
            with pytest.raises(openai.APIError):
                seen.extend(chunks)
        receipt = session.calls[0].parse_receipt()
        assert len(seen) == 1
        assert receipt is not None
        assert receipt.claims.response.end is End.UPSTREAM_ERROR


def verify(folder: Path, *arguments: str) -> int:
    command = [sys.executable, "-m", "attestation.cli.main", "verify", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, timeout=60, check=False
    ).returncode


def test_the_record_of_a_session_is_what_an_auditor_verifies(
    plain_stack: Stack, tmp_path: Path
) -> None:
    session = plain_stack.session()
    post(session, plain_stack.gateway.key)
    post(session, plain_stack.gateway.key, STREAM)
    path = session.export(tmp_path / "run")
    assert len(parse_bundle(path.read_bytes()).receipts) == 2
    jti = session.calls[0].receipt_id
    assert (tmp_path / "run" / "bodies" / f"{jti}.request").read_bytes() == BODY
    assert path.stat().st_mode & 0o077 == 0
    root = plain_stack.gateway.anchor.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "root.pem").write_bytes(root)
    (tmp_path / "policy.toml").write_text(pin_policy(plain_stack.gateway.boot))
    grounds = ("--policy", "policy.toml", "--root", "root.pem")
    assert verify(tmp_path, "run/bundle.json", *grounds, "--contents", "run/bodies") == 15
    assert verify(tmp_path, "run/bundle.json", "--policy", "policy.toml") == 10
    assert verify(tmp_path, "run/bundle.json", "--root", "root.pem") == 12
    assert all(call.anchored and call.verdict is Verdict.SIMULATED for call in session.calls)
    with pytest.raises(UsageError, match="exists already"):
        session.export(tmp_path / "run")
