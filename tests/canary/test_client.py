"""What a client raises and shows holds neither prompt nor answer, key or opening."""

from __future__ import annotations

import gzip
import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx2
import pytest

from attestation.errors import AttestationError
from attestation.policy import parse_policy
from attestation.result import AttestationResult
from gateway.cli.local.gateway import LocalGateway, LocalPlan
from gateway.cli.local.loop import LoopThread
from gateway.cli.local.policy import pin_policy
from gateway.client.judge import Trust
from gateway.client.session import Session
from gateway.client.transport import ReceiptTransport
from gateway.engine.scripted import JSON, Script, ScriptedEngine
from tests.canary.engine import CanaryEngine, scripts
from tests.canary.search import Canary, hits

CHAT = "/v1/chat/completions"
Change = Callable[[httpx2.Headers, bytes, str], tuple[int, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A gateway that is accepted, and the token in everything that goes through it."""

    gateway: LocalGateway
    trust: Trust
    canary: Canary


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    canary = Canary()
    played = scripts(canary, frame_bytes=4096, response_bytes=4096)
    with LoopThread() as loop:
        engine = CanaryEngine(played)
        address = loop.call(engine.start())
        with LocalGateway(LocalPlan(upstream=address)) as gateway:
            trust = Trust(
                policy=parse_policy(pin_policy(gateway.boot).encode()),
                anchors=(gateway.anchor,),
                gate=AttestationResult.require_accepted_or_unsafe_simulated,
            )
            yield Place(gateway=gateway, trust=trust, canary=canary)
        loop.call(engine.close())


class Changing(httpx2.BaseTransport):
    """Something on the way that changes the answer."""

    def __init__(self, change: Change, token: str) -> None:
        self._inner = httpx2.HTTPTransport(trust_env=False)
        self._change = change
        self._token = token

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self._inner.handle_request(request)
        body = answer.read()
        headers = httpx2.Headers(answer.headers)
        for name in ("content-length", "transfer-encoding"):
            headers.pop(name, None)
        status, body = self._change(headers, body, self._token)
        return httpx2.Response(status or answer.status_code, headers=headers, content=body)

    def close(self) -> None:
        self._inner.close()


def _header(name: str, value: Callable[[str, str], str]) -> Change:
    def change(headers: httpx2.Headers, body: bytes, token: str) -> tuple[int, bytes]:
        if name in headers:
            headers[name] = value(headers[name], token)
        return 0, body

    return change


def _body(change: Callable[[bytes, bytes], bytes]) -> Change:
    return lambda _headers, body, token: (0, change(body, token.encode()))


def _without_receipt(headers: httpx2.Headers, body: bytes, _token: str) -> tuple[int, bytes]:
    headers.pop("x-receipt", None)
    headers.pop("x-receipt-openings", None)
    return 0, body.replace(b": receipt", b": nothing")


def _compressed(headers: httpx2.Headers, body: bytes, _token: str) -> tuple[int, bytes]:
    headers["content-encoding"] = "gzip"
    return 0, gzip.compress(body)


CHANGES: dict[str, Change] = {
    "answer changed": _body(lambda body, token: body.replace(token, token[::-1], 1)),
    "answer longer": _body(lambda body, token: body + token),
    "answer replaced": _body(lambda _body, token: token),
    "receipt removed": _without_receipt,
    "answer compressed": _compressed,
    "another status": lambda _headers, body, _token: (201, body),
    "another id": _header("x-receipt-id", lambda old, _token: old[::-1]),
    "id of text": _header("x-receipt-id", lambda _old, token: token),
}
PLAIN_CHANGES: dict[str, Change] = {
    "receipt of text": _header("x-receipt", lambda _old, token: token),
    "receipt cut": _header("x-receipt", lambda old, _token: old[:-20]),
    "receipt forged": _header("x-receipt", lambda old, _t: old[:-4] + old[-4:].swapcase()),
    "openings of text": _header("x-receipt-openings", lambda _old, token: token),
    "openings cut": _header("x-receipt-openings", lambda old, _token: old[:-9]),
    "openings removed": _header("x-receipt-openings", lambda _old, _token: "e30"),
}
STREAM_CHANGES: dict[str, Change] = {
    "block twice": _body(
        lambda body, _t: body.replace(b": receipt ", b": receipt a.b.c\n: receipt ")
    ),
    "block of text": _body(
        lambda body, token: body.replace(b": receipt ", b": receipt " + token + b".")
    ),
    "openings of text": _body(
        lambda body, token: body.replace(b": receipt-openings ", b": receipt-openings " + token)
    ),
}


def shown_by(error: BaseException, session: Session) -> dict[str, bytes]:
    """Everything an application could print about a failure."""
    texts = {
        "traceback": "".join(traceback.format_exception(error)),
        "repr": repr(error),
        "session": repr(session) + repr(vars(session)),
        "calls": repr(session.calls) + str(session.calls),
        "failure": repr(session.recorder.failure) + str(session.recorder.failure),
        "results": repr([call.result for call in session.calls]),
    }
    return {name: text.encode() for name, text in texts.items()}


CASES = [
    *(("plain", name) for name in {**CHANGES, **PLAIN_CHANGES}),
    *(("stream", name) for name in {**CHANGES, **STREAM_CHANGES}),
]


@pytest.mark.parametrize(("scenario", "change"), CASES)
def test_refusal_of_a_changed_answer_quotes_nothing(
    place: Place, scenario: str, change: str
) -> None:
    token = place.canary.hidden
    session = Session.connect(place.gateway.url, place.trust)
    kind = PLAIN_CHANGES if scenario == "plain" else STREAM_CHANGES
    changing = Changing((CHANGES | kind)[change], token)
    transport = ReceiptTransport(changing, recorder=session.recorder)
    body = json.dumps({"model": "m", "user": scenario, "messages": [token], token: token})
    with (
        httpx2.Client(transport=transport, base_url=session.origin) as client,
        pytest.raises(AttestationError) as caught,
    ):
        client.post(CHAT, content=body, headers=_headers(place))
    places = shown_by(caught.value, session)
    assert str(caught.value)
    assert hits(token.encode(), places) == []
    assert hits(place.gateway.key.encode(), places) == []
    for call in session.calls:
        for key in call.openings.keys.values() if call.openings else ():
            assert hits(key, places) == []
    # The recorder has ended, and says so in the same way.
    with pytest.raises(AttestationError) as again:
        session.recorder.begin(
            method="POST", origin=session.origin, path=CHAT, headers={}, body=body.encode()
        )
    assert hits(token.encode(), shown_by(again.value, session)) == []


def _headers(place: Place) -> dict[str, str]:
    return {"authorization": f"Bearer {place.gateway.key}", "content-type": "application/json"}


def test_answers_that_are_accepted_are_not_shown_either(
    place: Place,
) -> None:
    token = place.canary.hidden
    session = Session.connect(place.gateway.url, place.trust)
    with session.http_client(base_url=session.origin) as client:
        for scenario in ("plain", "stream", "refusal", "stream-cut", "mute-not-known"):
            body = {"model": "m", "user": scenario, "messages": [token]}
            if scenario == "mute-not-known":
                body = {"model": f"{token} !"}
            client.post(CHAT, json=body, headers=_headers(place))
    assert len(session.calls) == 5
    places = shown_by(ValueError("nothing"), session)
    assert hits(token.encode(), places) == []
    assert hits(place.gateway.key.encode(), places) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://user:{}@gateway.example",
        "https://gateway.example/{}",
        "https://gateway.example?key={}",
        "http://{}.example",
        "ftp://{}",
        "{}",
        "unix:{}",
        "https://[{}",
    ],
)
def test_address_that_cannot_be_used_is_not_repeated(place: Place, url: str) -> None:
    token = place.canary.hidden
    with pytest.raises(AttestationError) as caught:
        Session.connect(url.format(token), place.trust)
    text = "".join(traceback.format_exception(caught.value))
    assert hits(token.encode(), {"traceback": text.encode()}) == []


@pytest.mark.parametrize(
    "script",
    [
        Script(writes=(b"%b",), content_type=JSON),
        Script(writes=(b'{"%b":1}',), content_type=JSON),
        Script(writes=(b'{"schema":"%b"}',), content_type=JSON),
        Script(writes=(b'{"error":{"message":"%b"}}',), content_type=JSON, status=500),
    ],
    ids=["text", "member", "schema", "error"],
)
def test_gateway_whose_evidence_is_none_is_not_quoted(place: Place, script: Script) -> None:
    token = place.canary.hidden
    writes = tuple(data.replace(b"%b", token.encode()) for data in script.writes)
    with LoopThread() as loop:
        engine = ScriptedEngine(
            Script(writes=writes, content_type=script.content_type, status=script.status)
        )
        address = loop.call(engine.start())
        with pytest.raises(AttestationError) as caught:
            Session.connect(address, place.trust)
        loop.call(engine.close())
    text = "".join(traceback.format_exception(caught.value))
    assert hits(token.encode(), {"traceback": text.encode()}) == []
