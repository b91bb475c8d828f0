"""Answers and logs of dstack agents as they are read: any bytes, and real ones."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.strict_json import parse_json
from attestation.errors import MalformedError, UnavailableError
from attestation.tdx.eventlog import dstack_runtime_digest, replay
from attestation.tdx.quote import parse_quote
from gateway.attester.dstack import DstackProvider
from gateway.attester.dstack_agent import NO_HTTP, Reading
from gateway.attester.dstack_log import read_agent_log
from tests.support.dstack import DstackAgent
from tests.vectors_path import need


def test_event_of_the_second_version_is_replayed_by_its_preimage() -> None:
    preimage = b'{"name":"app-id","payload":"aa","type":134217729}'
    log = [
        {
            "imr": 3,
            "event_type": 134217729,
            "digest": "",
            "event": "app-id",
            "event_payload": "aa",
            "version": 2,
            "preimage": preimage.hex(),
        }
    ]
    (event,) = read_agent_log(json.dumps(log)).parse().events
    assert event.digest == hashlib.sha384(preimage).digest()


@given(st.text(), st.binary(max_size=64))
def test_any_text_is_a_log_or_a_refusal(text: str, payload: bytes) -> None:
    item = {
        "imr": 3,
        "event_type": 0x08000001,
        "digest": "",
        "event": text[:64],
        "event_payload": payload.hex(),
    }
    for document in (text, json.dumps([item]), json.dumps([item | {"preimage": text}])):
        try:
            read_agent_log(document)
        except UnavailableError:
            continue


@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_bytes_are_an_answer_or_a_refusal(data: bytes, lead: int) -> None:
    heads = (
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    reading = Reading()
    try:
        for piece in (heads[lead], data, b""):
            if piece or not reading.complete:
                reading.feed(piece)
    except (MalformedError, *NO_HTTP):
        return
    assert reading.complete
    assert reading.answer.words


REAL_LOGS = ("Dstack-TEE-dstack", "near-mpc")


@pytest.mark.parametrize("folder", REAL_LOGS)
def test_real_logs_replay_to_their_quotes_with_and_without_digests(folder: str) -> None:
    root = need("tdx")
    entries = json.loads((root / folder / "manifest.json").read_bytes())["entries"]
    seen = 0
    for entry in entries:
        if "eventlog" not in entry or not entry["eventlog"]["file"].startswith("eventlog-"):
            continue
        quote = parse_quote((root / folder / entry["file"]).read_bytes())
        items: Any = parse_json((root / folder / entry["eventlog"]["file"]).read_bytes())
        stripped = [
            item | {"digest": ""} if item["event_type"] == 0x08000001 else item for item in items
        ]
        for form in (items, stripped):
            record = read_agent_log(json.dumps(form))
            assert list(replay(record.parse())) == list(quote.body.rtmrs)
        seen += 1
    assert seen


@pytest.mark.parametrize("name", ["tdx-lite-getquote.json", "quote-report.json"])
def test_real_answers_of_agents_are_read_and_their_logs_replay(
    provider: DstackProvider, agent: DstackAgent, name: str
) -> None:
    answer: Any = json.loads((need("tdx") / "Dstack-TEE-dstack" / name).read_bytes())
    agent.change = lambda _method, _answer: answer
    raw = provider.quote(bytes.fromhex(answer["report_data"]))
    log = provider.event_log().parse()
    assert list(replay(log)) == list(parse_quote(raw).body.rtmrs)
    assert [event.name for event in log.events if event.register == 3][:3] == [
        "system-preparing",
        "app-id",
        "compose-hash",
    ]


def test_digest_rule_is_the_one_of_the_agent() -> None:
    assert (
        dstack_runtime_digest("app-id", b"\xde\xad")
        == hashlib.sha384(b"\x01\x00\x00\x08:app-id:\xde\xad").digest()
    )
