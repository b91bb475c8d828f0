"""`attested eventlog`: event by event, against quotes, reference logs and policies."""

from __future__ import annotations

import hashlib
import json
import ssl
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.bundle import make_bundle
from attestation.cli.eventlog_check import Findings
from attestation.cli.main import main
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.chain import split_pem
from attestation.tdx.divergence import MAX_GUESSED
from attestation.tdx.events import EventLog, replay
from attestation.tdx.logfile import parse_log_file
from attestation.tdx.quote import parse_quote
from tests import vectors_path
from tests.cli.eventlogs import LOG, ccel, quoting, write
from tests.cli.support import Folder, Stdin, printed
from tests.support.bundles import Gateway
from tests.tdx import bench
from tests.tdx.test_ccel import header, record
from tests.tdx.test_eventdata import GPT, OTHER, SEPARATOR, VARIABLE, table, variable
from tests.tdx.test_eventlog import dstack
from tests.tdx.test_runtime_log import key, measured


def test_log_is_listed_event_by_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = variable("SecureBoot", b"\x01")
    claim = record(2, b"never to be seen", digests=((0x0C, b"\x07" * 48),))
    data = header() + record(1, content, kind=VARIABLE) + claim + record(1, b"note", kind=3)
    assert main(["eventlog", write(tmp_path, "ccel", data)]) == 0
    out = capsys.readouterr().out
    assert "ccel, 2 events and 1 records that extend no register" in out
    assert "content: SecureBoot (EFI global variable) = on" in out
    assert "digest only" in out
    assert "never to be seen" not in out
    after = hashlib.sha384(bytes(48) + hashlib.sha384(content).digest()).hexdigest()
    assert out.count(f"{after[:16]}…") == 2
    assert "RTMR3  0 events, replay to all zero" in out


def test_json_shows_everything_but_claims(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [dstack(event_payload=b"secret claim".hex()), dstack(imr=1, digest="")]
    assert main(["eventlog", write(tmp_path, "log", data), "--json"]) == 0
    out = capsys.readouterr().out
    assert b"secret claim".hex() not in out
    value = json.loads(out)
    assert value["schema"] == "attested-gateway/eventlog-report/v1"
    (log,) = value["logs"]
    first, second = log["events"]
    assert first["digest"] == "ab" * 48
    assert first["content"] is None
    assert first["register_after"] == hashlib.sha384(bytes(48) + b"\xab" * 48).hexdigest()
    assert (second["digest"], second["register_after"]) == (None, None)
    assert [one["replayed"] for one in log["registers"]][1:] == [None, "00" * 48, "00" * 48]
    assert (log["quote"], log["reference"], log["tuples"]) == (None, None, None)
    assert (log["format"], log["unmeasured"]) == ("dstack", 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (measured(), "content: model.lock: sha256 0303030303030303…"),
        (key(7), "content: receipt.key: bootseed 0101010101010101…, keyset_digest"),
    ],
)
def test_events_of_the_gateway_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: dict[str, Any], text: str
) -> None:
    assert main(["eventlog", write(tmp_path, "log", [value])]) == 0
    assert text in capsys.readouterr().out


def test_contents_of_every_kind_fit_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (
        header()
        + record(1, bytes(4), kind=SEPARATOR)
        + record(1, table("ROOT", ""), kind=GPT)
        + record(1, variable("x", b"\x00" * 80, OTHER), kind=VARIABLE)
        + record(1, b"line\nbreak", kind=0x80000007)
        + record(1, b"", kind=0x80000007)
        + record(1, b"\x00\x01", kind=0x80000007)
        + record(1, b"y" * 400, kind=0x80000007)
    )
    assert main(["eventlog", write(tmp_path, "log", data)]) == 0
    out = capsys.readouterr().out
    assert "content: 00000000, the firmware hands over" in out
    assert f"content: disk {OTHER}, 2 partitions: ROOT, unnamed" in out
    assert f"content: x ({OTHER}) = 80 bytes, SHA-256 " in out
    assert 'content: "line\\nbreak"' in out
    assert "content: empty" in out
    assert "content: 0001" in out
    assert max(map(len, out.splitlines())) < 160


def test_hostile_names_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b[2J\nverdict ACCEPTED " + "x" * 200
    assert main(["eventlog", write(tmp_path, "log", [dstack(event=name)])]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\nverdict" not in out
    assert max(map(len, out.splitlines())) < 160


def test_matching_log_under_a_root_that_is_not_intels_gives_15(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ccel(b"a", b"b")
    quote = write(tmp_path, "quote", quoting(data))
    assert main(["eventlog", write(tmp_path, "log", data), "--quote", quote]) == 15
    out = capsys.readouterr().out
    assert "SIMULATED" in out
    assert "not verified" in out
    assert out.count("✓") == 4


def test_registers_that_nobody_signed_are_not_agreed_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ccel(b"a")
    raw = quoting(ccel(b"b"))
    shown, wanted = (replay(parse_log_file(one))[0] for one in (ccel(b"b"), data))
    quote = write(tmp_path, "quote", raw.replace(shown, wanted))
    arguments = ["eventlog", write(tmp_path, "log", data), "--quote", quote]
    assert main(arguments) == 10
    out = capsys.readouterr().out
    assert "its signatures do not hold" in out
    assert out.count("the quote's value") == 4
    assert main([*arguments, "--json"]) == 10
    assert printed(capsys)["logs"][0]["quote"]["signed"] is False


def test_chain_that_only_ends_with_intels_root_does_not_count_as_signed() -> None:
    quote = parse_quote(bench.raw_quote())
    (*own, _) = split_pem(quote.cert_chain_pem, what="the chain")
    pem = "".join(ssl.DER_cert_to_PEM_cert(der) for der in (*own, INTEL_ANCHOR.root_der))
    borrowed = replace(quote, certification_data=pem.encode())
    found = Findings(name="log", log=EventLog(format="ccel", events=()), quote=borrowed)
    assert found.intel_root is True
    assert found.signed is False
    assert found.exit_codes == [0, 10]


def test_quote_without_a_chain_has_no_root_to_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ccel()
    domain = {"rtmrs": (bytes(48),) * 4}
    raw = bench.changed(bench.platform(), domain=domain, writing={"inner_type": 3}).quote(
        bench.REPORT_DATA
    )
    quote = write(tmp_path, "quote", raw)
    assert main(["eventlog", write(tmp_path, "log", data), "--quote", quote]) == 0
    assert "no chain" in capsys.readouterr().out


def test_chain_that_ends_in_no_root_is_not_intels() -> None:
    quote = parse_quote(bench.raw_quote())
    leaf = quote.cert_chain_pem[: quote.cert_chain_pem.index(b"-----END") + 26]
    found = Findings(
        name="log",
        log=EventLog(format="ccel", events=()),
        quote=replace(quote, certification_data=leaf),
    )
    assert found.intel_root is False
    assert found.exit_codes == [0, 15]


CASES = [
    ([b"a", b"b"], [b"a"], "earlier", 1, "taken after event 1 (EV_SEPARATOR) of 2"),
    ([b"a", b"b"], [], "earlier", 0, "none of the 2 events is in it"),
    ([b"a", b"x", b"b"], [b"a", b"b"], "omitted", 2, "without event 2 (EV_SEPARATOR)"),
    ([b"a", b"b"], [b"a", b"a", b"b"], "repeated", 1, "with event 1 (EV_SEPARATOR) twice"),
    ([b"a", b"b", b"c"], [b"b", b"a", b"c"], "swapped", 1, "with events 1 (EV_SEPARATOR) and 2"),
    ([b"a", b"b"], [b"a", b"c"], "unknown", 0, "nor does leaving out, repeating or exchanging"),
]


@pytest.mark.parametrize(("told", "true", "cause", "at", "text"), CASES)
def test_where_a_mismatch_begins_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    told: list[bytes],
    true: list[bytes],
    cause: str,
    at: int,
    text: str,
) -> None:
    quote = write(tmp_path, "quote", quoting(ccel(*true)))
    arguments = ["eventlog", write(tmp_path, "log", ccel(*told)), "--quote", quote]
    assert main(arguments) == 10
    assert text in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 10
    first, *others = printed(capsys)["logs"][0]["registers"]
    assert (first["standing"], first["cause"], first["at"]) == ("mismatch", cause, at)
    assert text in first["explanation"]
    assert [one["standing"] for one in others] == ["match"] * 3
    assert [one["explanation"] for one in others] == [""] * 3


def test_long_log_is_not_guessed_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quote = write(tmp_path, "quote", quoting(ccel(b"a")))
    log = write(tmp_path, "log", ccel(*[b"b"] * (MAX_GUESSED + 1)))
    assert main(["eventlog", log, "--quote", quote]) == 10
    assert "nor does leaving out" not in capsys.readouterr().out


def test_register_that_the_log_has_no_events_for_is_not_covered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ccel(b"a")
    quote = write(tmp_path, "quote", quoting(data + record(4, b"b")))
    assert main(["eventlog", write(tmp_path, "log", data), "--quote", quote]) == 12
    assert "RTMR3  not covered" in capsys.readouterr().out
    written = json.dumps([dstack(digest=hashlib.sha384(b"a").hexdigest())]).encode()
    assert main(["eventlog", write(tmp_path, "log", written), "--quote", quote]) == 10
    assert "the quote shows that there were some" in capsys.readouterr().out


def test_log_of_the_gateway_is_held_to_rtmr3_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Gateway()
    register = made.machine.domain.rtmrs
    assert all(map(any, register[:3]))
    quote = write(tmp_path, "quote", made.evidence.quote)
    assert made.evidence.event_log is not None
    data = json.dumps(made.evidence.event_log.data).encode()
    assert main(["eventlog", write(tmp_path, "log", data), "--quote", quote]) == 15
    assert main(["eventlog", write(tmp_path, "log", LOG), "--quote", quote]) == 10
    assert main(["eventlog", write(tmp_path, "log", []), "--quote", quote]) == 10
    assert "RTMR0  not covered" in capsys.readouterr().out


def test_digests_that_the_log_leaves_out_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def runtime(name: str, **changes: Any) -> dict[str, Any]:
        digest = hashlib.sha384(b"\x01\x00\x00\x08:" + name.encode() + b":\x01").hexdigest()
        item = dstack(imr=3, event_type=0x08000001, event=name, event_payload="01", digest=digest)
        return item | changes

    stated = [runtime("app-id"), runtime("compose-hash")]
    quote = write(tmp_path, "quote", quoting(json.dumps(stated).encode()))
    bare = [stated[0], stated[1] | {"digest": ""}]
    assert main(["eventlog", write(tmp_path, "log", bare), "--quote", quote]) == 10
    out = capsys.readouterr().out
    assert "no digest for 1 of 2 events, first for event 2 (compose-hash)" in out
    assert "recomputed by dstack's rule" in out
    assert "nothing proven" in out
    for lie in ({"event_payload": "02"}, {"event": "a:b"}):
        told = write(tmp_path, "log", [stated[0], bare[1] | lie])
        assert main(["eventlog", told, "--quote", quote]) == 10
        assert "recomputed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("contents", "change", "place", "seen"),
    [
        ([b"a"], "missing", 2, None),
        ([b"a", b"b", b"c"], "extra", 3, "EV_SEPARATOR"),
        ([b"a", b"x"], "changed", 2, "EV_SEPARATOR"),
        ([b"b", b"a"], "reordered", 1, "EV_SEPARATOR"),
    ],
)
def test_first_event_that_differs_from_the_reference_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    contents: list[bytes],
    change: str,
    place: int,
    seen: str | None,
) -> None:
    reference = write(tmp_path, "reference", ccel(b"a", b"b"))
    log = write(tmp_path, "log", ccel(*contents))
    assert main(["eventlog", log, "--expect", reference]) == 10
    out = capsys.readouterr().out
    assert f"✗ RTMR0  differs from the reference log at event {place}: {change}" in out
    assert main(["eventlog", log, "--expect", reference, "--json"]) == 10
    first, *others = printed(capsys)["logs"][0]["reference"]
    assert first["change"] == change
    assert (first["seen"] or {"name": None})["name"] == seen
    assert others == [None] * 3


def test_reference_log_itself_does_not_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path, "log", ccel(b"a", b"b"))
    assert main(["eventlog", log, "--expect", log]) == 0
    assert capsys.readouterr().out.count("✓") == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["LOG", "--tuple", "x"],
        ["LOG", "--policy", "POLICY", "--tuple", "x"],
        ["BUNDLE", "--quote", "LOG"],
        ["TWO", "--quote", "LOG"],
        ["LOG", "--expect", "TWO"],
        ["EMPTY"],
        ["LOG", "--quote", "missing"],
        ["-", "--quote", "-"],
    ],
)
def test_arguments_that_make_no_sense_are_refused(folder: Folder, arguments: list[str]) -> None:
    other = Gateway(seed="b")
    two = make_bundle(
        boots=[folder.gateway.evidence, other.evidence],
        collateral=[folder.gateway.machine.collateral(), other.machine.collateral()],
    )
    names = {
        "LOG": folder.write("log", ccel(b"a")),
        "BUNDLE": folder["bundle.json"],
        "TWO": folder.write("two.json", two.encode()),
        "EMPTY": folder.write("empty.json", make_bundle().encode()),
        "POLICY": folder["policy.toml"],
    }
    assert main(["eventlog", *(names.get(one, one) for one in arguments)]) == 2


@pytest.mark.parametrize("data", [b"", b"text", ccel(b"a")[:-1], header() + header()])
def test_file_that_is_no_log_is_malformed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    assert main(["eventlog", write(tmp_path, "torn.bin", data)]) == 13
    assert "torn.bin" in capsys.readouterr().err


def test_log_is_read_from_stdin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(ccel(b"a")))
    assert main(["eventlog", "-"]) == 0
    assert "ccel, 1 event\n" in capsys.readouterr().out


REAL = [
    ("google-go-tdx-guest/ccel_data.dat", "google-go-tdx-guest/quote-00b2526a.bin", 0),
    ("Dstack-TEE-dstack/eventlog-cbdb5b2f.json", "Dstack-TEE-dstack/quote-cbdb5b2f.bin", 0),
    ("near-mpc/tcb_info.json", "near-mpc/quote-b9e238b2.bin", 0),
    ("Dstack-TEE-dstack/eventlog-1d0342e3.json", "Dstack-TEE-dstack/quote-1d0342e3.bin", 10),
    ("cc-api-cc-trusted-api/ccel_data.bin", "cc-api-cc-trusted-api/quote-3f49cfeb.bin", 10),
    (
        "google-go-eventlog/cos-113-intel-tdx-dupe-separator-unpadded.bin",
        "google-go-tdx-guest/quote-00b2526a.bin",
        10,
    ),
]


@pytest.mark.parametrize(("log", "quote", "code"), REAL)
def test_real_logs_are_compared_with_their_real_quotes(log: str, quote: str, code: int) -> None:
    folder = vectors_path.need("tdx")
    assert main(["eventlog", str(folder / log), "--quote", str(folder / quote)]) == code
