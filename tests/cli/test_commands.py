"""The commands on files, called as `main(argv)` and, once, as a process."""

from __future__ import annotations

import base64
import io
import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.bundle import Bundle, parse_bundle
from attestation.checks import CHECKS
from attestation.cli import files
from attestation.cli.main import COMMANDS, main
from attestation.encoding import base64url
from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.tdx.collateral import Collateral
from tests.support.bundles import NOW, Exchanged, Gateway

AT = ["--at", str(NOW + 60)]


class Folder:
    """A folder as the demo leaves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gateway = Gateway()
        self.gateway.plain(nonce="abcdefgh")
        self.gateway.stream()
        self.write("bundle.json", self.gateway.bundle().encode())
        self.write("policy.toml", self.gateway.policy_toml().encode())
        self.write("root.pem", self.gateway.anchor.certificate.public_bytes(Encoding.PEM))
        (path / "bodies").mkdir()
        for exchanged in self.gateway.exchanged:
            self.write(f"bodies/{exchanged.jti}.request", exchanged.request)
            self.write(f"bodies/{exchanged.jti}.response", exchanged.response)
        self.write("bodies/README.txt", b"not a body")

    def write(self, name: str, data: bytes) -> str:
        (self.path / name).write_bytes(data)
        return self[name]

    def __getitem__(self, name: str) -> str:
        return str(self.path / name)

    @property
    def first(self) -> Exchanged:
        return self.gateway.exchanged[0]

    @property
    def grounds(self) -> list[str]:
        return ["--policy", self["policy.toml"], "--root", self["root.pem"], *AT]

    def verify(self, *arguments: str, file: str | None = None) -> int:
        return main(["verify", *self.grounds, *arguments, "--", file or self["bundle.json"]])

    def verify_all(self, files: list[str], *arguments: str) -> int:
        return main(["verify", *files, *self.grounds, *arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def check_of(value: dict[str, Any], id_: str, number: int = 0) -> dict[str, Any]:
    found: list[dict[str, Any]] = [check for check in value["checks"] if check["id"] == id_]
    return found[number]


# verify


def test_bundle_with_policy_root_and_bodies_is_simulated(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder.verify("--contents", folder["bodies"]) == 15
    output = capsys.readouterr()
    assert "SIMULATED (exit 15)" in output.out
    assert "in-band block" in output.out
    assert output.err == ""


def test_json_is_one_document(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder.verify("--json") == 15
    value = printed(capsys)
    assert value["verdict"] == "SIMULATED"
    assert value["file"] == folder["bundle.json"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--policy"], 10),
        (["--root"], 12),
        (["--policy", "--root"], 15),
        ([], 10),
    ],
)
def test_policy_and_root_decide(folder: Folder, arguments: list[str], code: int) -> None:
    values = {"--policy": folder["policy.toml"], "--root": folder["root.pem"]}
    given = [item for name in arguments for item in (name, values[name])]
    assert main(["verify", folder["bundle.json"], *AT, *given]) == code


def test_default_instant_is_now(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestation.cli.files.time.time", lambda: float(NOW + 60))
    grounds = ["--policy", folder["policy.toml"], "--root", folder["root.pem"]]
    assert main(["verify", folder["bundle.json"], *grounds]) == 15
    monkeypatch.setattr("attestation.cli.files.time.time", lambda: float(NOW + 90 * 86_400))
    assert main(["verify", folder["bundle.json"], *grounds]) == 11


def test_one_changed_byte_of_a_body_is_rejected(folder: Folder) -> None:
    path = Path(folder["bodies"]) / f"{folder.first.jti}.response"
    path.write_bytes(folder.first.response.replace(b"hi", b"ho"))
    assert folder.verify("--contents", folder["bodies"]) == 10


def test_body_that_is_missing_from_the_folder_is_incomplete(folder: Folder) -> None:
    (Path(folder["bodies"]) / f"{folder.first.jti}.request").unlink()
    assert folder.verify("--contents", folder["bodies"]) == 12


def test_body_of_no_receipt_in_the_folder_is_incomplete(folder: Folder) -> None:
    folder.write(f"bodies/{'0' * 32}.request", b"x")
    assert folder.verify("--contents", folder["bodies"]) == 12


def test_engines_bytes_are_read_from_the_folder(folder: Folder) -> None:
    exchanged = folder.gateway.plain(engine=b"engine")
    folder.write("bundle.json", folder.gateway.bundle().encode())
    folder.write(f"bodies/{exchanged.jti}.request", exchanged.request)
    folder.write(f"bodies/{exchanged.jti}.response", exchanged.response)
    assert folder.verify("--contents", folder["bodies"]) == 12
    folder.write(f"bodies/{exchanged.jti}.engine", b"engine")
    assert folder.verify("--contents", folder["bodies"]) == 15
    folder.write(f"bodies/{exchanged.jti}.engine", b"Engine")
    assert folder.verify("--contents", folder["bodies"]) == 10


def test_named_receipt_is_checked_with_its_bodies_and_nonce(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    request = folder.write("request", folder.first.request)
    response = folder.write("response", folder.first.response)
    named = ["--receipt", f"chatcmpl-{folder.first.jti}", "--request", request]
    assert folder.verify(*named, "--response", response, "--nonce", "abcdefgh", "--json") == 15
    value = printed(capsys)
    for id_ in ("REQUEST-BODY", "RESPONSE-BODY", "NONCE"):
        assert check_of(value, id_)["status"] == "pass"
        assert check_of(value, id_, 1)["status"] == "skip"
    assert folder.verify(*named, "--nonce", "abcdefgi") == 10
    assert folder.verify("--receipt", folder.first.jti, "--request", response) == 10
    assert folder.verify("--receipt", folder.first.jti, "--response", request) == 10


def test_flags_for_one_receipt_go_before_the_folder(folder: Folder) -> None:
    other = folder.write("other", b"other")
    named = ["--contents", folder["bodies"], "--receipt", folder.first.jti]
    assert folder.verify(*named) == 15
    assert folder.verify(*named, "--request", other) == 10


def test_named_receipt_that_is_not_there_is_incomplete(folder: Folder) -> None:
    assert folder.verify("--receipt", "0" * 32) == 12


def test_receipt_name_that_holds_no_id_is_a_usage_error(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder.verify("--receipt", "first") == 2
    assert "32 hexadecimal digits" in capsys.readouterr().err


def test_bodies_without_a_name_need_a_file_with_one_receipt(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder.verify("--nonce", "abcdefgh") == 2
    assert folder.first.jti in capsys.readouterr().err
    single = Gateway()
    single.plain(nonce="abcdefgh")
    bundle = folder.write("single.json", single.bundle().encode())
    root = folder.write("single.pem", single.anchor.certificate.public_bytes(Encoding.PEM))
    arguments = ["verify", bundle, "--policy", folder["policy.toml"], "--root", root, *AT]
    assert main([*arguments, "--nonce", "abcdefgh"]) == 15
    assert main([*arguments, "--nonce", "abcdefgi"]) == 10


def test_nonce_for_a_file_that_cannot_be_read_does_not_hide_that(folder: Folder) -> None:
    broken = folder.write("broken.json", b"{")
    assert folder.verify("--nonce", "abcdefgh", file=broken) == 13


def test_worst_of_several_files_decides(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    lone = folder.write("lone.jws", folder.first.item.receipt.token.encode())
    bundle = folder["bundle.json"]
    assert folder.verify_all([lone, bundle]) == 12
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "the worst of 2 files: INCOMPLETE (exit 12)"
    assert folder.verify_all([bundle]) == 15
    assert capsys.readouterr().out.splitlines()[-1].startswith("SIMULATED (exit 15)")
    broken = folder.write("broken.json", b"{")
    capsys.readouterr()
    assert folder.verify_all([bundle, lone, broken], "--json") == 13
    value = printed(capsys)
    assert value["exit_code"] == 13
    assert [r["verdict"] for r in value["results"]] == ["SIMULATED", "INCOMPLETE", "MALFORMED"]


def test_bodies_are_looked_for_in_the_file_that_has_the_receipt(folder: Folder) -> None:
    other = Gateway(seed="b", platform=folder.gateway.machine)
    other.plain()
    second = folder.write("second.json", other.bundle().encode())
    for exchanged in other.exchanged:
        folder.write(f"bodies/{exchanged.jti}.request", exchanged.request)
        folder.write(f"bodies/{exchanged.jti}.response", exchanged.response)
    files_ = [folder["bundle.json"], second]
    assert folder.verify_all(files_, "--contents", folder["bodies"]) == 15


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", 13), (b"{}", 13), (b"\x04\x00", 13), (b"x" * 100, 13)],
)
def test_files_that_are_nothing_are_malformed(folder: Folder, content: bytes, code: int) -> None:
    assert folder.verify(file=folder.write("file", content)) == code


def test_lone_receipt_is_incomplete_and_says_how_to_go_on(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    lone = folder.write("lone.jws", folder.first.item.receipt.token.encode())
    assert main(["verify", lone]) == 12
    assert "format=bundle" in capsys.readouterr().out


def test_endorsements_from_beside_the_file_are_used(folder: Folder) -> None:
    made = folder.gateway
    bare = made.bundle(collateral=[]).encode()
    bundle = folder.write("bare.json", bare)
    assert folder.verify(file=bundle) == 12
    ours = folder.write("ours.json", json.dumps(made.machine.collateral().to_json()).encode())
    assert folder.verify("--endorsements", ours, file=bundle) == 15
    theirs = folder.write("theirs.json", _dcap_json(made.machine.collateral()))
    assert folder.verify("--endorsements", theirs, file=bundle) == 15
    late = ["--at", str(NOW + 40 * 86_400)]
    fresh = json.dumps(made.machine.collateral(at=NOW + 40 * 86_400).to_json()).encode()
    assert folder.verify(*late) == 11
    assert folder.verify("--endorsements", folder.write("fresh.json", fresh), *late) == 15
    assert folder.verify("--endorsements", folder.write("bad.json", b"[]")) == 13


def _dcap_json(collateral: Collateral) -> bytes:
    """The form dcap-qvl writes: hexadecimal instead of base64url."""
    values = {
        name: value.hex() if isinstance(value := getattr(collateral, name), bytes) else value
        for name in collateral.to_json()
    }
    return json.dumps(values).encode()


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_standard_input_can_be_one_file(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(folder.gateway.bundle().encode()))
    assert folder.verify(file="-") == 15
    monkeypatch.setattr(sys, "stdin", Stdin(folder.first.request))
    assert folder.verify("--receipt", folder.first.jti, "--request", "-") == 15
    assert folder.verify("--request", "-", file="-") == 2
    assert folder.verify_all(["-", "-"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["verify", "/nonexistent/file"], 2, "cannot read '/nonexistent/file'"),
        (["verify", "a\0b"], 2, "not a file name"),
        (["verify"], 2, "required"),
        (["verify", "x", "--nope"], 2, "unrecognized"),
        (["verify", "x", "--at", "yesterday"], 2, "cannot read"),
    ],
)
def test_usage_errors_say_what_is_wrong(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code or "--at" in arguments
    assert said in capsys.readouterr().err or "--at" in arguments


def test_policy_and_root_that_are_none_are_malformed(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = folder.write("bad", b"bad")
    assert main(["verify", folder["bundle.json"], "--policy", bad]) == 13
    assert f"attested: '{bad}': the policy" in capsys.readouterr().err
    assert main(["verify", folder["bundle.json"], "--root", bad]) == 13
    assert folder.verify("--contents", bad) == 2


def test_body_of_any_size_is_read_whole(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BUNDLE_BYTES", 4)
    assert files.load_body(folder.write("body", b"0123456789")) == b"0123456789"
    assert files.load_bytes(folder["body"], limit=4) == b"01234"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1750975090", 1_750_975_090),
        ("2025-06-26T21:58:10Z", 1_750_975_090),
        ("2025-06-26T23:58:10+02:00", 1_750_975_090),
        ("2025-06-26", 1_750_896_000),
    ],
)
def test_instants_are_seconds_or_rfc_3339(text: str, seconds: int) -> None:
    assert files.parse_instant(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "now", "-1", "1.5", "٣", "2025-06-26T21:58:10", "1969-12-31T23:59:59Z", "1" * 13],
)
def test_other_instants_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        files.parse_instant(text)


def test_terminal_without_unicode_gets_plain_marks(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert folder.verify() == 15
    sys.stdout.flush()
    assert b"    + BUNDLE" in raw.getvalue()
    assert b"..." in raw.getvalue()


# quote


def test_quote_is_read_from_bytes_hex_and_base64(folder: Folder) -> None:
    made = folder.gateway
    raw = made.machine.quote(bytes(64))
    collateral = folder.write("c.json", json.dumps(made.machine.collateral().to_json()).encode())
    zero = "00" * 48
    policy = folder.write("pinned.toml", made.policy_toml(rtmr3=f'"{zero}"').encode())
    arguments = ["--collateral", collateral, "--policy", policy, "--root", folder["root.pem"], *AT]
    texts = [
        raw,
        raw + bytes(50),
        raw.hex().encode(),
        b"0x" + raw.hex().upper().encode() + b"\n",
        base64.b64encode(raw),
        base64.encodebytes(raw),
        base64.urlsafe_b64encode(raw),
    ]
    for text in texts:
        assert main(["quote", folder.write("quote", text), *arguments]) == 15
    for text in (b"", b"!", b"abc", raw[:-1], raw + b"x"):
        assert main(["quote", folder.write("quote", text), *arguments]) == 13
    assert main(["quote", folder.write("quote", raw), *AT]) == 12


def test_quote_prints_json(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    quote = folder.write("quote", folder.gateway.evidence.quote)
    assert main(["quote", quote, "--json", *AT]) == 12
    value = printed(capsys)
    assert value["facts"]["quotes"][0]["version"] == 4
    assert main(["quote", "-", "--collateral", "-"]) == 2


# inspect


def inspected(capsys: pytest.CaptureFixture[str], file: str) -> dict[str, Any]:
    assert main(["inspect", file, "--json"]) == 0
    value = printed(capsys)
    assert value["verified"] is False
    return value


def test_inspect_recognises_what_people_have(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    item = folder.first.item
    assert item.openings is not None
    openings = item.openings.to_json()
    answer = {"receipt": item.receipt.token, "openings": openings, "proof": None, "state": "sealed"}
    known = {
        "bundle": [folder.gateway.bundle().encode()],
        "receipt": [item.receipt.token.encode(), json.dumps(answer).encode()],
        "openings": [json.dumps(openings).encode(), item.openings.encode_header().encode()],
        "quote": [folder.gateway.evidence.quote, folder.gateway.evidence.quote.hex().encode()],
    }
    for kind, contents in known.items():
        for content in contents:
            assert inspected(capsys, folder.write("file", content))["kind"] == kind


def test_inspect_says_that_nothing_was_verified(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", folder["bundle.json"]]) == 0
    output = capsys.readouterr().out
    assert output.startswith("bundle\nNothing below was verified")
    assert "exit" not in output


def test_inspect_never_shows_opening_keys(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    openings = folder.first.item.openings
    assert openings is not None
    key = openings.to_json()["req"]
    header = folder.write("openings", openings.encode_header().encode())
    for file in (folder["bundle.json"], header):
        main(["inspect", file])
        assert key not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"{",
        b"nothing",
        b"ey!",
        b"a.b.c",
        b'{"schema":"x"}',
        b'{"req":1}',
        b"\xff.\xff.",
    ],
)
def test_inspect_refuses_what_it_does_not_know(folder: Folder, content: bytes) -> None:
    assert main(["inspect", folder.write("file", content)]) == 13


# bundle


def test_bundle_merges_files_and_verifies_afterwards(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    made = folder.gateway
    boots = folder.write("boots.json", made.bundle(receipts=[]).encode())
    lone = [
        folder.write(f"{number}.json", Bundle(receipts=(exchanged.item,)).encode())
        for number, exchanged in enumerate(made.exchanged)
    ]
    out = folder["out.json"]
    assert main(["bundle", boots, *lone, "-o", out]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert "1 boot, 2 receipts" in output.err
    assert Path(out).read_bytes() == made.bundle().encode()
    assert folder.verify("--contents", folder["bodies"], file=out) == 15
    capsys.readouterr()
    assert main(["bundle", boots, "-o", out, "--json"]) == 0
    assert printed(capsys)["receipts"] == 0


def test_file_that_cannot_be_merged_is_named(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = folder.write("bad", b"bad")
    assert main(["bundle", folder["bundle.json"], bad]) == 13
    assert f"attested: '{bad}': the file is neither" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Stdin(b""))
    assert main(["bundle", folder["bundle.json"], "-"]) == 13
    assert "attested: standard input: the file is empty" in capsys.readouterr().err


def test_bundle_goes_to_standard_output(
    folder: Folder, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["bundle", folder["bundle.json"]]) == 0
    assert capfdbinary.readouterr().out == folder.gateway.bundle().encode()


def test_bundle_takes_endorsements_in(folder: Folder) -> None:
    made = folder.gateway
    bare = replace(made.evidence, collateral=None)
    file = folder.write("bare.json", made.bundle(boots=[bare], collateral=[]).encode())
    fresh = made.machine.collateral(at=NOW + 5)
    collateral = folder.write("c.json", json.dumps(fresh.to_json()).encode())
    out = folder["out.json"]
    assert main(["bundle", file, "--endorsements", collateral, "-o", out]) == 0
    assert list(parse_bundle(Path(out).read_bytes()).collateral) == [fresh.digest]
    assert main(["bundle", folder["bundle.json"], "--endorsements", collateral, "-o", out]) == 0
    assert list(parse_bundle(Path(out).read_bytes()).collateral) == [fresh.digest]


def test_bundle_refuses_contradictions_and_places_it_cannot_write(folder: Folder) -> None:
    item = folder.first.item
    other = replace(item, proof=None, openings=None)
    one = folder.write("one.json", Bundle(receipts=(item,)).encode())
    assert main(["bundle", one, "-o", folder["no/such/folder"]]) == 2
    forged = item.receipt.token[:-2] + ("A" if item.receipt.token[-2] != "A" else "Q") + "A"
    two = folder.write("two", forged.encode())
    assert main(["bundle", one, two]) == 13
    assert other.openings is None


# main


def test_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["-h"], ["help"]):
        assert main(argv) == 0
        output = capsys.readouterr().out
        assert all(f"  {name} " in output for name in COMMANDS)
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"attested {command}" in capsys.readouterr().out


def test_help_of_verify_lists_checks_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", "--help"])
    output = capsys.readouterr().out
    assert all(id_ in output for id_ in CHECKS)
    assert all(f"\n  {code} " in output for code in (0, 10, 11, 12, 13, 15))


@pytest.mark.parametrize("argv", [["version"], ["--version"]])
def test_version_names_what_verdicts_rest_on(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    output = capsys.readouterr().out
    assert "dcap-qvl" in output
    assert "attested-gateway/bundle/v1" in output


def test_version_prints_json_and_admits_what_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attestation.cli.version._PARTS", ("cryptography", "no-such-part"))
    assert main(["version", "--json"]) == 0
    assert printed(capsys)["versions"]["no-such-part"] == "not installed"


def test_unknown_command_is_a_usage_error_with_a_guess(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verfiy"]) == 2
    assert "did you mean `attested verify`" in capsys.readouterr().err
    assert main(["xyzzy\x1b"]) == 2
    assert "\x1b" not in capsys.readouterr().err


class Fake:
    """A command that does what the test says."""

    HELP = "fake"

    def __init__(self, outcome: BaseException | int) -> None:
        self.outcome = outcome

    def configure(self, parser: Any) -> None:
        parser.add_argument("rest", nargs="*")

    def run(self, _: Any) -> int:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def run_fake(outcome: BaseException | int) -> int:
    return main(["fake"], {"fake": "nowhere"}, lambda _: Fake(outcome))


def test_refusal_prints_message_expected_seen_and_hint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = MalformedError("it is wrong", expected="a", observed="b", hint="do c")
    assert run_fake(error) == 13
    assert capsys.readouterr().err == (
        "attested: it is wrong\n  expected a\n  seen     b\n  hint     do c\n"
    )
    assert run_fake(UnavailableError("not there\x1b[2J")) == 14
    assert capsys.readouterr().err == "attested: not there\\x1b[2J\n"


def test_internal_error_shows_its_type_and_no_content(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ATTESTED_DEBUG", raising=False)
    assert run_fake(RuntimeError("secret prompt")) == 1
    error = capsys.readouterr().err
    assert "RuntimeError" in error
    assert "secret prompt" not in error
    monkeypatch.setenv("ATTESTED_DEBUG", "1")
    assert run_fake(RuntimeError("secret prompt")) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_and_odd_exits_have_codes() -> None:
    assert run_fake(KeyboardInterrupt()) == 130
    assert run_fake(7) == 7


def test_command_that_cannot_be_loaded_still_shows_in_the_overview(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(path: str) -> Any:
        raise ImportError(path)

    assert main(["--help"], {"serve": "x"}, load) == 0
    assert "needs an extra" in capsys.readouterr().out


def test_stop_without_a_number_is_a_usage_error() -> None:
    class Stopping(Fake):
        def configure(self, parser: Any) -> None:
            parser.error = sys.exit
            parser.add_argument("--needed", required=True)

    assert main(["fake"], {"fake": "x"}, lambda _: Stopping(0)) == 2


def test_command_line_works_as_a_process_and_survives_a_closed_pipe(folder: Folder) -> None:
    command = [sys.executable, "-m", "attestation.cli.main"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = ["verify", folder["bundle.json"], *folder.grounds]
    done = subprocess.run([*command, *arguments], capture_output=True, check=False, env=environment)
    assert done.returncode == 15
    assert b"Traceback" not in done.stderr
    read, write = os.pipe()
    os.close(read)
    piped = subprocess.run(
        [*command, *arguments], stdout=write, stderr=subprocess.PIPE, check=False, env=environment
    )
    os.close(write)
    assert piped.returncode == 1
    assert piped.stderr == b""


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_module_can_be_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["attested", "version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("attestation.cli.main", run_name="__main__")
    assert stop.value.code == 0
    assert "attested-gateway" in capsys.readouterr().out


def test_closed_pipe_ends_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert run_fake(BrokenPipeError()) == 1
    assert capsys.readouterr().err == ""


def test_openings_in_base64_that_are_none_are_malformed(folder: Folder) -> None:
    text = base64url.encode(b'{"x":1}')
    assert main(["inspect", folder.write("file", text.encode())]) == 13
