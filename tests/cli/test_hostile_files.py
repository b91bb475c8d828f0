"""Files and folders that somebody else prepared: commands refuse them, and never hang or obey."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.cli import files
from attestation.cli.inspect import recognise
from attestation.cli.main import main
from attestation.errors import UsageError
from tests.support.bundles import NOW
from tests.tamper.folder import write_evidence
from tests.tamper.folders import folder_of, gateway

OWN = gateway("own")
FOLDER = folder_of(OWN)
JTI = OWN.exchanged[0].jti


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as the demo leaves it."""
    write_evidence(FOLDER, tmp_path)
    (tmp_path / "policy.toml").write_text(OWN.policy_toml())
    (tmp_path / "root.pem").write_bytes(OWN.anchor.root_der)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verify(*more: str, file: str = "bundle.json", policy: str = "policy.toml") -> int:
    return main(["verify", file, "--policy", policy, "--root", "root.pem",
                 "--at", str(NOW + 60), *more])  # fmt: skip


def test_folder_as_the_demo_leaves_it_ends_in_15(there: Path) -> None:
    assert verify("--contents", "bodies") == 15


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "dangling"])
def test_body_that_is_no_regular_file_is_refused_without_reading(
    there: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    body = there / "bodies" / f"{JTI}.request"
    body.unlink()
    make: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(body),
        "folder": body.mkdir,
        "device": lambda: body.symlink_to("/dev/zero"),
        "dangling": lambda: body.symlink_to("nowhere"),
    }
    make[kind]()
    assert verify("--contents", "bodies") == 2
    assert "not a regular file" in capsys.readouterr().err


def test_link_to_the_right_bytes_is_as_good_as_the_bytes(there: Path) -> None:
    body = there / "bodies" / f"{JTI}.request"
    body.rename(there / "elsewhere")
    body.symlink_to(there / "elsewhere")
    assert verify("--contents", "bodies") == 15


def test_names_that_are_no_receipt_ids_are_not_opened(there: Path) -> None:
    for name in (f"{JTI.upper()}.request", f"x{JTI}.request", f"{JTI}.request~", f".{JTI}.response",
                 f"{JTI}.request\n", "..request", "\x1b[2J.request"):  # fmt: skip
        os.mkfifo(there / "bodies" / name)
    assert verify("--contents", "bodies") == 15


def test_body_of_a_receipt_that_is_not_in_the_file_leaves_the_result_incomplete(
    there: Path,
) -> None:
    (there / "bodies" / f"{'0' * 32}.request").write_bytes(b"")
    assert verify("--contents", "bodies") == 12


@pytest.mark.parametrize("name", ["nowhere", "bundle.json", "a\x00b"])
def test_contents_that_are_no_folder_are_a_mistake_of_usage(there: Path, name: str) -> None:
    assert verify("--contents", name) == 2


def test_body_beyond_every_bound_is_refused(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "MAX_BODY_BYTES", 10)
    assert files.load_body(_written(there, 10)) == b"x" * 10
    with pytest.raises(UsageError, match="too large"):
        files.load_body(_written(there, 11))
    assert verify("--contents", "bodies") == 2
    assert "too large" in capsys.readouterr().err


def _written(folder: Path, size: int) -> str:
    (folder / "body").write_bytes(b"x" * size)
    return "body"


@pytest.mark.parametrize("option", ["--policy", "--root", "--endorsements", "--request"])
def test_standard_input_is_read_for_one_argument_only(there: Path, option: str) -> None:
    assert main(["verify", "-", option, "-"]) == 2


def test_bundle_on_standard_input_is_verified_as_from_a_file(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FOLDER.bundle)))
    assert verify("--contents", "bodies", file="-") == 15


def test_name_of_a_file_cannot_write_to_the_terminal(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b[2Jbundle\n\nACCEPTED (exit 0).json"
    (there / "bundle.json").rename(there / name)
    assert verify(file=name) == 15
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.startswith("\\x1b[2Jbundle\\n\\nACCEPTED")


def test_policy_that_is_a_bundle_and_a_bundle_that_is_a_policy_are_malformed(there: Path) -> None:
    assert verify(policy="bundle.json") == 13
    assert verify(file="policy.toml") == 13
    assert verify("--endorsements", "policy.toml") == 13


def test_remarks_of_libraries_about_odd_certificates_stay_out_of_the_output(there: Path) -> None:
    collateral = OWN.machine.collateral()
    crl = collateral.root_ca_crl
    # The common name becomes the country, whose values have two letters.
    odd = crl.replace(bytes.fromhex("0603550403"), bytes.fromhex("0603550406"), 1)
    assert odd != crl
    script = (
        "import sys;from attestation.cli.main import main;"
        f"sys.exit(main(['verify','odd.json','--policy','policy.toml','--root','root.pem',"
        f"'--at','{NOW + 60}']))"
    )
    (there / "odd.json").write_bytes(_with_root_crl(odd))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=there,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        check=False,
    )
    assert done.returncode in (10, 13)
    assert done.stderr == b""


def _with_root_crl(crl: bytes) -> bytes:
    collateral = replace(OWN.machine.collateral(), root_ca_crl=crl)
    boot = replace(OWN.evidence, collateral=collateral.digest)
    return OWN.bundle(boots=[boot], collateral=[collateral]).encode()


def test_warnings_that_were_asked_for_are_left_alone(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        monkeypatch.setattr(sys, "warnoptions", ["error"])
        before = list(warnings.filters)
        assert main(["version"]) == 0
        assert warnings.filters == before


def test_bundle_larger_than_other_json_is_still_a_bundle(there: Path) -> None:
    made = gateway("many")
    for _ in range(40):
        made.plain()
    data = made.bundle().encode()
    assert len(data) > 1 << 16
    kind, content = recognise(data)
    assert (kind, len(content["receipts"])) == ("bundle", 42)


@pytest.mark.parametrize("value", [b"[]", b"{}"])
def test_endorsements_full_of_tiny_values_are_malformed(there: Path, value: bytes) -> None:
    (there / "many.json").write_bytes(b'{"a":[' + (value + b",") * (1 << 20) + b"0]}")
    assert verify("--endorsements", "many.json") == 13
    assert main(["inspect", "many.json"]) == 13
