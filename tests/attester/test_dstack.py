"""The `dstack:` provider against an agent's socket: what it gives, and every way it can fail."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from attestation.errors import UnavailableError, UsageError
from attestation.tdx.eventlog import replay
from attestation.tdx.quote import parse_quote
from gateway.attester.base import open_provider
from gateway.attester.dstack import DstackProvider
from gateway.attester.dstack_agent import MAX_ANSWER, Agent
from tests.attester.agents import CONTENT, DIGEST, REPORT_DATA, extend, opened, refusal, rewritten
from tests.support.dstack import DstackAgent, runtime_digest


def test_quote_shows_the_report_data_and_the_registers_of_the_log(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    quote = parse_quote(provider.quote(REPORT_DATA))
    assert quote.body.report_data == REPORT_DATA
    assert list(replay(provider.event_log().parse())) == list(quote.body.rtmrs)
    assert agent.calls == [("GetQuote", {"report_data": REPORT_DATA.hex()})]


def test_log_states_the_digests_that_the_agent_leaves_out(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    assert agent.strips_digests
    log = provider.event_log().parse()
    assert [(event.name, event.digest.hex()) for event in log.events if event.register == 3] == (
        agent.guest.own_events
    )
    assert all(event.content is not None for event in log.events if event.register == 3)


def test_log_with_its_digests_is_taken_as_it_is(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    agent.strips_digests = False
    assert provider.event_log().data == agent.guest.log


def test_extension_is_the_last_event_and_changes_the_register(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    before = provider.read_rtmr3()
    extend(provider)
    last = provider.event_log().parse().events[-1]
    assert (last.name, last.content) == ("receipt.key", CONTENT)
    assert last.digest == runtime_digest("receipt.key", CONTENT) != DIGEST
    assert provider.read_rtmr3() == hashlib.sha384(before + last.digest).digest()
    assert ("EmitEvent", {"event": "receipt.key", "payload": CONTENT.hex()}) in agent.calls


def test_log_is_asked_for_again_after_an_extension_and_after_a_quote(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    first = len(provider.event_log().parse().events)
    extend(provider)
    assert len(provider.event_log().parse().events) == first + 1
    agent.guest.emit("later", b"")
    provider.quote(REPORT_DATA)
    assert len(provider.event_log().parse().events) == first + 2


def test_agent_that_keeps_no_version_has_none(agent: DstackAgent, tmp_path: Path) -> None:
    assert opened(tmp_path).agent_version() == "0.5.11"
    agent.version = None
    assert opened(tmp_path).agent_version() is None


def test_source_gives_no_endorsements_and_hangs_under_intels_root(provider: DstackProvider) -> None:
    provider.collateral()
    provider.anchor()
    assert provider.name == "dstack"
    assert provider.can_extend_rtmr3


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_report_data_of_another_length_never_reaches_the_agent(
    provider: DstackProvider, agent: DstackAgent, size: int
) -> None:
    with pytest.raises(UsageError):
        provider.quote(bytes(size))
    assert agent.calls == []


def test_quote_over_other_report_data_is_refused(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    agent.change = rewritten("quote", agent.guest.quote(bytes(64)).hex())
    assert refusal(provider).observed == bytes(64).hex()[:16]


def test_agent_that_names_other_report_data_is_refused(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    agent.change = rewritten("report_data", bytes(64).hex())
    assert refusal(provider).code == "dstack_answer"


def test_log_without_its_last_event_is_refused(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    agent.guest.log.pop()
    assert refusal(provider).code == "rtmr3"


def test_register_extended_past_the_agent_is_refused(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    agent.guest.extend_unlogged(bytes(48))
    told = refusal(provider)
    assert told.code == "rtmr3"
    assert "RTMR3" in told.message


def test_quote_is_given_out_whatever_the_log_says_so_that_a_change_is_seen(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    agent.guest.extend_unlogged(bytes(48))
    quote = parse_quote(provider.quote(REPORT_DATA))
    assert quote.body.rtmrs[3] == agent.guest.registers[3] == provider.read_rtmr3()


def test_log_of_another_boot_chain_is_refused(provider: DstackProvider, agent: DstackAgent) -> None:
    agent.guest.log[0]["digest"] = "00" * 48
    assert "RTMR0" in refusal(provider).message


def test_stale_log_after_an_extension_is_refused(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    provider.quote(REPORT_DATA)
    before = json.dumps([agent._shown(event) for event in agent.guest.log])
    agent.change = rewritten("event_log", before)
    with pytest.raises(UnavailableError) as caught:
        extend(provider)
    assert caught.value.code == "rtmr3"


def test_extension_that_the_agent_only_claims_is_refused(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    def nothing(name: str, payload: bytes) -> None:
        assert (name, payload) == ("receipt.key", CONTENT)

    agent.guest.emit = nothing  # type: ignore[method-assign]
    with pytest.raises(UnavailableError) as caught:
        extend(provider)
    assert caught.value.observed == "system-ready"


def test_event_of_somebody_else_right_after_ours_is_refused(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    emit = agent.guest.emit

    def both(name: str, payload: bytes) -> None:
        emit(name, payload)
        emit("foreign", b"")

    agent.guest.emit = both  # type: ignore[method-assign]
    with pytest.raises(UnavailableError) as caught:
        extend(provider)
    assert caught.value.observed == "foreign"


def test_agent_that_lets_nobody_extend_says_what_to_do(agent: DstackAgent, tmp_path: Path) -> None:
    agent.version = "0.6.1"
    with pytest.raises(UnavailableError) as caught:
        extend(opened(tmp_path))
    assert "removed in dstack 0.6.0" in caught.value.observed
    assert "rtmr3=off" in caught.value.hint


def test_provider_told_not_to_extend_does_not(agent: DstackAgent, tmp_path: Path) -> None:
    provider = opened(tmp_path, "?rtmr3=off")
    assert not provider.can_extend_rtmr3
    with pytest.raises(UnavailableError):
        extend(provider)
    assert agent.calls == []


def test_agent_that_is_too_slow_is_given_up(agent: DstackAgent, tmp_path: Path) -> None:
    def slow(_method: str, whole: bytes) -> Iterable[bytes]:
        yield whole[:40]
        agent.released.wait()

    agent.fault = slow
    told = refusal(opened(tmp_path, "?timeout=0.1"))
    assert told.code == "dstack_timeout"
    assert "0.1 s" in told.expected


def test_agent_that_drips_is_given_up_in_all(agent: DstackAgent, tmp_path: Path) -> None:
    def drip(_method: str, whole: bytes) -> Iterable[bytes]:
        for position in range(len(whole)):
            yield whole[position : position + 1]
            agent.released.wait(0.01)

    agent.fault = drip
    assert refusal(opened(tmp_path, "?timeout=0.2")).code == "dstack_timeout"


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (lambda whole: whole.replace(b"200 OK", b"500 Oh", 1), "HTTP 500"),
        (lambda whole: whole.replace(b"200 OK", b"301 Oh", 1), "HTTP 301"),
        (lambda whole: whole[:-1], "it ended after"),
        (lambda whole: whole[: whole.index(b"\r\n\r\n")], "it ended after"),
        (lambda _whole: b"", "it ended after 0 bytes"),
        (lambda _whole: b"hello\r\n\r\n", "no HTTP"),
        (lambda whole: whole + whole, "more than one answer"),
        (
            lambda _whole: b"HTTP/1.1 101 Hm\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            "no HTTP",
        ),
        (lambda _whole: b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", ""),
        (lambda _whole: b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnope", ""),
        (lambda _whole: b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"a":1,"a":2}', ""),
    ],
)
def test_broken_answer_is_refused(
    provider: DstackProvider, agent: DstackAgent, sent: Callable[[bytes], bytes], seen: str
) -> None:
    agent.fault = lambda _method, whole: [sent(whole)]
    told = refusal(provider)
    assert seen in told.observed
    assert told.expected
    assert told.hint


def test_answer_without_end_is_cut_off(provider: DstackProvider, agent: DstackAgent) -> None:
    def endless(_method: str, _whole: bytes) -> Iterable[bytes]:
        yield b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        while True:
            yield b"10000\r\n" + bytes(65536) + b"\r\n"

    agent.fault = endless
    assert refusal(provider).observed == f"more than {MAX_ANSWER} bytes"


def test_reset_connection_is_named(provider: DstackProvider, agent: DstackAgent) -> None:
    agent.resets = True
    assert refusal(provider).code == "dstack_socket"


@pytest.mark.parametrize("member", ["quote", "event_log", "report_data"])
@pytest.mark.parametrize("value", [None, 7, "xyz", ["00"]])
def test_member_of_another_kind_is_refused(
    provider: DstackProvider, agent: DstackAgent, member: str, value: object
) -> None:
    agent.change = rewritten(member, value)
    assert refusal(provider).code in ("dstack_answer", "dstack_log")


@pytest.mark.parametrize("missing", ["quote", "event_log"])
def test_missing_member_is_refused(
    provider: DstackProvider, agent: DstackAgent, missing: str
) -> None:
    agent.change = lambda _method, answer: {k: v for k, v in answer.items() if k != missing}
    assert missing in refusal(provider).message


def test_agent_that_does_not_repeat_the_report_data_is_taken_by_its_quote(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    agent.change = lambda _method, answer: {k: v for k, v in answer.items() if k != "report_data"}
    assert parse_quote(provider.quote(REPORT_DATA)).body.report_data == REPORT_DATA


def test_words_of_the_agent_are_shown_short_and_printable(
    provider: DstackProvider, agent: DstackAgent
) -> None:
    said = json.dumps({"error": "\x1b[2J" + "long " * 1000}).encode()
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n" % len(said)
    agent.fault = lambda _method, _whole: [head + said]
    told = refusal(provider)
    assert "\x1b" not in told.observed
    assert len(told.observed) < 300


def test_missing_socket_is_named_with_what_to_mount(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        opened(tmp_path)
    assert str(tmp_path / "dstack.sock") in caught.value.message
    assert "mount" in caught.value.hint


def test_file_in_place_of_the_socket_is_named(tmp_path: Path) -> None:
    (tmp_path / "dstack.sock").mkdir()
    with pytest.raises(UnavailableError) as caught:
        opened(tmp_path)
    assert "no socket" in caught.value.message


def test_socket_that_nobody_listens_at_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dstack.sock"))
    assert "nobody listens" in refusal(opened(tmp_path)).message


def test_socket_that_may_not_be_opened_is_named(
    agent: DstackAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    provider = opened(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    told = refusal(provider)
    assert "may not be opened" in told.message
    assert told.observed == "Permission denied"


@pytest.mark.parametrize(
    "uri",
    [
        "dstack:relative.sock",
        "dstack:/s?rtmr3=maybe",
        "dstack:/s?timeout=0",
        "dstack:/s?timeout=301",
        "dstack:/s?timeout=-1",
        "dstack:/s?timeout=x",
        "dstack:/s?wrong=1",
        "dstack:/s?timeout=1&timeout=2",
        "dstack:/" + "s" * 200,
    ],
)
def test_unusable_address_is_refused_before_anything_is_opened(uri: str) -> None:
    with pytest.raises(UsageError):
        open_provider(uri)


def test_the_socket_is_the_one_that_dstack_mounts_unless_another_is_named() -> None:
    if Path("/var/run/dstack.sock").exists():
        pytest.skip("this machine is a dstack guest")
    with pytest.raises(UnavailableError) as caught:
        open_provider("dstack:")
    assert "/var/run/dstack.sock" in caught.value.message


def test_nothing_is_asked_of_the_agent_before_it_is_needed(
    agent: DstackAgent, tmp_path: Path
) -> None:
    opened(tmp_path)
    Agent(tmp_path / "dstack.sock", timeout=1).require_socket()
    assert agent.calls == []
