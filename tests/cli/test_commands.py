"""`attested quote`, `inspect` and `bundle` on files."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.bundle import Bundle, parse_bundle
from attestation.cli.main import main
from attestation.encoding import base64url
from tests.cli.support import AT, Folder, Stdin, printed
from tests.support.bundles import NOW

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


def test_openings_in_base64_that_are_none_are_malformed(folder: Folder) -> None:
    text = base64url.encode(b'{"x":1}')
    assert main(["inspect", folder.write("file", text.encode())]) == 13


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
    assert "1 boot, 0 epochs, 2 receipts" in output.err
    assert Path(out).read_bytes() == made.bundle().encode()
    assert folder.verify("--contents", folder["bodies"], file=out) == 15
    capsys.readouterr()
    assert main(["bundle", boots, "-o", out, "--json", "--force"]) == 0
    assert printed(capsys)["receipts"] == 0


def test_bundle_carries_openings_and_is_for_its_owner_alone(folder: Folder) -> None:
    out = Path(folder["out.json"])
    assert main(["bundle", folder["bundle.json"], "-o", str(out)]) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    out.chmod(0o644)
    assert main(["bundle", folder["bundle.json"], "-o", str(out), "--force"]) == 0
    assert out.stat().st_mode & 0o777 == 0o600


def test_bundle_that_exists_is_replaced_only_when_that_is_asked_for(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder.write("out.json", b"mine")
    assert main(["bundle", folder["bundle.json"], "-o", out]) == 2
    assert "--force" in capsys.readouterr().err
    # Made by somebody else between the look and the writing.
    monkeypatch.setattr("attestation.cli.bundle.require_absent", lambda _: None)
    assert main(["bundle", folder["bundle.json"], "-o", out]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path(out).read_bytes() == b"mine"
    assert main(["bundle", folder["bundle.json"], "-o", out, "--force"]) == 0
    assert Path(out).read_bytes() == folder.gateway.bundle().encode()


def test_bundle_into_what_is_no_regular_file_leaves_its_mode(folder: Folder) -> None:
    before = Path("/dev/null").stat().st_mode
    assert main(["bundle", folder["bundle.json"], "-o", "/dev/null", "--force"]) == 0
    assert Path("/dev/null").stat().st_mode == before


def test_one_receipt_is_taken_out_of_a_bundle(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    jti, out = folder.gateway.exchanged[1].jti, folder["out.json"]
    assert main(["bundle", folder["bundle.json"], "--receipt", jti, "-o", out]) == 0
    assert "1 boot, 0 epochs, 1 receipt, " in capsys.readouterr().err
    assert parse_bundle(Path(out).read_bytes()).receipts[0].jti == jti
    assert main(["bundle", folder["bundle.json"], "--receipt", "0" * 32, "-o", out]) == 2


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
    again = ["--endorsements", collateral, "-o", out, "--force"]
    assert main(["bundle", folder["bundle.json"], *again]) == 0
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
