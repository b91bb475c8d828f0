"""`attested verify` on files: what it is given, what it reads, and its exit codes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.cli import files
from attestation.cli.main import main
from attestation.errors import UsageError
from attestation.tdx.collateral import Collateral
from tests.cli.support import AT, Folder, Stdin, check_of, printed
from tests.support.bundles import NOW, Gateway


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


TOO_LATE = ["--at", str(NOW + 90 * 86_400)]


def test_too_late_for_simulated_evidence_is_marked_and_never_called_genuine(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert folder.verify(*TOO_LATE) == 11
    text = capsys.readouterr().out
    assert "genuine, and" not in text
    assert "SIMULATED: judged under a root given with --root, not Intel's" in text
    assert folder.verify(*TOO_LATE, "--json") == 11
    value = printed(capsys)
    assert check_of(value, "QUOTE-GENUINE")["status"] == "skip"
    assert value["trust_domains"] == ["simulated"]
    assert value["not_proved"][0].startswith("hardware: judged under a root that is not Intel's")


@pytest.mark.parametrize("worse", ["measurements", "changed quote", "quote cut short"])
def test_every_worse_verdict_on_simulated_evidence_is_marked(
    folder: Folder, capsys: pytest.CaptureFixture[str], worse: str
) -> None:
    bundle = json.loads(Path(folder["bundle.json"]).read_bytes())
    quote = bundle["boots"][0]["quote"]
    if worse == "measurements":
        policy = Path(folder["policy.toml"]).read_text().replace('mrtd = "', 'mrtd = "f00f', 1)
        start = policy.index('mrtd = "f00f') + len('mrtd = "')
        folder.write("policy.toml", (policy[: start + 96] + policy[start + 100 :]).encode())
    else:
        other = "A" if quote[400] != "A" else "B"
        cut = quote[:400] if worse == "quote cut short" else quote[:400] + other + quote[401:]
        bundle["boots"][0]["quote"] = cut
        folder.write("bundle.json", json.dumps(bundle, separators=(",", ":")).encode())
    code = {"measurements": 11, "changed quote": 10, "quote cut short": 13}[worse]
    assert folder.verify() == code
    text = capsys.readouterr().out
    assert "SIMULATED: judged under a root given with --root, not Intel's" in text
    assert "the evidence is genuine" not in text
    assert folder.verify("--json") == code
    value = printed(capsys)
    assert value["trust_domains"] == ["simulated"]
    assert value["not_proved"][0].startswith("hardware: ")


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


def test_nonce_that_was_sent_is_read_from_the_folder(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"bodies/{folder.first.jti}.nonce"
    for text, code in (("abcdefgh", 15), ("abcdefgh\n", 15), ("abcdefgi\n", 10)):
        folder.write(name, text.encode())
        capsys.readouterr()
        assert folder.verify("--contents", folder["bodies"], "--json") == code
        nonce = check_of(printed(capsys), "NONCE")
        assert nonce["status"] == ("pass" if code == 15 else "fail")
    named = ["--contents", folder["bodies"], "--receipt", folder.first.jti]
    assert folder.verify(*named, "--nonce", "abcdefgh") == 15


@pytest.mark.parametrize("data", [b"", b"abcdefgh\n\n", b"abc", b"abcdefg\xe9", b"a" * 89])
def test_file_that_holds_no_nonce_is_named_and_not_taken_for_a_forgery(
    folder: Folder, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    folder.write(f"bodies/{folder.first.jti}.nonce", data)
    assert folder.verify("--contents", folder["bodies"]) == 2
    told = capsys.readouterr().err
    assert f"{folder.first.jti}.nonce' holds no nonce" in told
    assert "X-Receipt-Nonce" in told


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
