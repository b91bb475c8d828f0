"""`attested policy` as it is typed: findings, cases against real evidence, imports."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.cli.main import main
from attestation.encoding.digest import Digest
from attestation.policy import parse_policy
from attestation.policy.toml import toml_pair
from attestation.statement.model_lock import LockedEngine, LockedFile, ModelLock, Role
from tests.cli.support import Folder, Stdin, printed
from tests.support.bundles import NOW, Gateway

SOFTWARE = "ab" * 48
CLEAN = f"""
schema = "appraisal-policy/1"
[tdx]
min_tcb_evaluation_number = 17
mrseam = ["{SOFTWARE}"]
[endorsements]
max_age_days = 30
[platform]
ppid = [{{ value = "{"ef" * 16}", until = 2027-01-01 }}]
[[reference_values]]
name = "one"
mrtd = "{SOFTWARE}"
rtmr0 = "{SOFTWARE}"
rtmr1 = "{SOFTWARE}"
rtmr2 = "{SOFTWARE}"
rtmr3 = "replay"
origin = "gateway.example"
config_digest = "{"cd" * 32}"
"""
LINT = ["policy", "lint", "--at", str(NOW)]


def case(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": "the bundle",
        "bundle": "bundle.json",
        "roots": ["root.pem"],
        "at": NOW + 60,
        "verdict": "SIMULATED",
    }
    return plain | changes


def write_cases(folder: Folder, *cases: dict[str, Any], policy: str | None = "policy.toml") -> str:
    lines = ['schema = "policy-cases/1"']
    lines += [] if policy is None else [toml_pair("policy", policy)]
    for one in cases:
        lines.append("[[cases]]")
        lines += [toml_pair(key, item) for key, item in one.items() if item is not None]
    return folder.write("cases.toml", "\n".join(lines).encode())


def test_notes_alone_are_exit_code_0(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    name = folder.write("clean.toml", CLEAN.encode())
    assert main([*LINT, name]) == 0
    output = capsys.readouterr().out
    assert "note: reference_values[0].model [no_model]" in output
    assert output.endswith(f"{name}: 3 notes\n")


def test_policy_without_any_finding_says_so(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CLEAN.replace("[tdx]", '[tdx]\nmin_tcb_date = "2025-05-14"'.replace('"', ""))
    text += f'model = "{"cd" * 32}"\nevents = [{{ name = "model.lock", digest = "{SOFTWARE}" }}]\n'
    name = folder.write("clean.toml", text.encode())
    assert main([*LINT, name]) == 0
    assert capsys.readouterr().out == f"{name}: nothing to remark\n"


def test_warning_is_exit_code_11_and_a_later_instant_finds_what_has_ended(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = folder.write("clean.toml", CLEAN.encode())
    assert main(["policy", "lint", name, "--at", "2027-01-01"]) == 11
    output = capsys.readouterr().out
    assert "warning: platform.ppid[0].until [ended]" in output
    assert "error: platform.ppid [no_machine_counts]" in output
    assert "1 error, 1 warning, 3 notes" in output


def test_malformed_policy_is_exit_code_13_with_the_key_and_the_others_are_still_linted(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    good = folder.write("clean.toml", CLEAN.encode())
    bad = folder.write("bad.toml", CLEAN.replace("mrseam", "mrsaem").encode())
    assert main([*LINT, bad, good]) == 13
    output = capsys.readouterr().out
    assert f"{bad}: MALFORMED: the policy has an unknown key tdx.mrsaem" in output
    assert "did you mean" in output
    assert f"{good}: 3 notes" in output


def test_findings_as_one_json_document(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    clean = folder.write("clean.toml", CLEAN.encode())
    bad = folder.write("bad.toml", b"schema = 1")
    assert main([*LINT, clean, folder["policy.toml"], bad, "--json"]) == 13
    document = printed(capsys)
    assert document["schema"] == "attested-gateway/policy-lint/v1"
    assert (document["exit_code"], document["at"]) == (13, NOW)
    one, two, three = document["files"]
    assert [one["exit_code"], two["exit_code"], three["exit_code"]] == [0, 11, 13]
    assert one["policy_digest"] == Digest.of(CLEAN.encode()).hex
    assert one["malformed"] is None
    finding = next(each for each in one["findings"] if each["code"] == "no_model")
    assert finding.keys() == {"severity", "code", "path", "meaning", "remedy"}
    assert finding["severity"] == "note"
    assert three["policy_digest"] is None
    assert three["findings"] == []
    assert "schema" in three["malformed"]["message"]


def test_policy_is_linted_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(CLEAN.encode()))
    assert main([*LINT, "-"]) == 0
    assert "-: 3 notes" in capsys.readouterr().out
    assert main([*LINT, "-", "-"]) == 2


def test_cases_that_come_out_as_expected_are_exit_code_0(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    first = folder.first
    contents = {
        "receipt": first.jti,
        "request": f"bodies/{first.jti}.request",
        "response": f"bodies/{first.jti}.response",
        "nonce": "abcdefgh",
    }
    name = write_cases(
        folder,
        case(),
        case(name="no root", roots=None, verdict="REJECTED", failing=["QUOTE-GENUINE"]),
        case(
            name="contents",
            **contents,
            checks={"QUOTE-GENUINE": "pass", "TCB-STATUS": "pass", "KEYSET": "pass"},
        ),
        case(name="nonce", **contents | {"nonce": "other"}, verdict="REJECTED", failing=["NONCE"]),
        case(
            name="bodies exchanged",
            **contents | {"request": contents["response"], "response": contents["request"]},
            verdict="REJECTED",
            failing=["REQUEST-BODY", "RESPONSE-BODY"],
        ),
        case(name="no bundle", bundle="bodies/README.txt", verdict="MALFORMED"),
        case(name="late", at=NOW + 400 * 86_400, verdict="NOT-ACCEPTED"),
    )
    code = main(["policy", "test", name])
    output = capsys.readouterr().out
    assert code == 0, output
    assert output.startswith("✓ the bundle: SIMULATED\n✓ no root: REJECTED\n")
    assert output.endswith("7 cases: 7 as expected, 0 not\n")


def test_case_that_comes_out_otherwise_is_exit_code_10_and_says_what_differs(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write_cases(folder, case(verdict="ACCEPTED", checks={"KEYSET": "fail"}), case(name="b"))
    assert main(["policy", "test", name]) == 10
    assert capsys.readouterr().out == (
        "✗ the bundle: SIMULATED\n"
        "    verdict: expected ACCEPTED, got SIMULATED\n"
        "    KEYSET: expected fail, got pass\n"
        "✓ b: SIMULATED\n"
        "2 cases: 1 as expected, 1 not\n"
    )
    assert main(["policy", "test", name, name, "--json"]) == 10
    document = printed(capsys)
    assert document["schema"] == "attested-gateway/policy-test/v1"
    assert document["exit_code"] == 10
    assert [one["ok"] for one in document["cases"]] == [False, True, False, True]
    assert document["cases"][0] == {
        "file": name,
        "name": "the bundle",
        "ok": False,
        "expected": "ACCEPTED",
        "got": "SIMULATED",
        "differences": [
            "verdict: expected ACCEPTED, got SIMULATED",
            "KEYSET: expected fail, got pass",
        ],
    }


def test_quotes_by_themselves_and_endorsements_are_evidence_of_cases(folder: Folder) -> None:
    made = folder.gateway
    collateral = json.dumps(made.machine.collateral().to_json()).encode()
    folder.write("collateral.json", collateral)
    folder.write("quote.hex", made.evidence.quote.hex().encode())
    folder.write("bare.json", made.bundle(collateral=[]).encode())
    quote = case(name="quote", bundle=None, quote="quote.hex", verdict="INCOMPLETE")
    bare = case(name="bare", bundle="bare.json")
    name = write_cases(
        folder,
        quote | {"collateral": "collateral.json", "checks": {"QUOTE-GENUINE": "pass"}},
        quote | {"name": "alone", "checks": {"QUOTE-GENUINE": "skip"}},
        bare | {"endorsements": ["collateral.json"]},
        bare | {"name": "unendorsed", "verdict": "INCOMPLETE"},
    )
    assert main(["policy", "test", name]) == 0


def test_policy_of_a_case_counts_before_the_files_and_the_option_before_both(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    other = folder.gateway.policy_toml(mrtd=f'"{SOFTWARE}"')
    folder.write("other.toml", other.encode())
    name = write_cases(
        folder,
        case(),
        case(name="other", policy="other.toml", verdict="NOT-ACCEPTED", failing=["MEASUREMENTS"]),
    )
    assert main(["policy", "test", name]) == 0
    capsys.readouterr()
    assert main(["policy", "test", name, "--policy", folder["other.toml"]]) == 10
    assert "✗ the bundle: NOT-ACCEPTED" in capsys.readouterr().out


def test_case_without_any_policy_is_a_mistake(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write_cases(folder, case(), policy=None)
    assert main(["policy", "test", name]) == 2
    assert "case 'the bundle': there is no policy to judge it by" in capsys.readouterr().err
    assert main(["policy", "test", name, "--policy", folder["policy.toml"]]) == 0


@pytest.mark.parametrize("name", ["policy.toml", "root.pem"])
def test_malformed_file_beside_the_evidence_is_exit_code_13(
    name: str, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write(name, b"=")
    cases = write_cases(folder, case())
    assert main(["policy", "test", cases]) == 13
    assert name in capsys.readouterr().err
    cases = folder.write("cases.toml", b"=")
    assert main(["policy", "test", cases]) == 13
    assert "cases.toml" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["bundle", "roots", "policy", "request"])
def test_file_outside_the_folder_is_not_read_even_through_a_link(
    key: str, folder: Folder, tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_bytes(b"secret")
    (folder.path / "link").symlink_to(secret)
    told = {key: ["link"] if key == "roots" else "link"}
    more = {"receipt": folder.first.jti} if key == "request" else {}
    assert main(["policy", "test", write_cases(folder, case(**told, **more))]) == 2
    assert (
        "case 'the bundle': the case file names 'link', which is no file" in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", ["absent", "bodies", "pipe", "loop", "x" * 256])
def test_what_is_no_regular_file_is_not_opened(
    name: str, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(folder.path / "pipe")
    (folder.path / "loop").symlink_to(folder.path / "loop")
    assert main(["policy", "test", write_cases(folder, case(bundle=name))]) == 2
    assert "no file in its folder" in capsys.readouterr().err


def test_link_that_stays_in_the_folder_is_followed(folder: Folder) -> None:
    (folder.path / "link").symlink_to("bundle.json")
    assert main(["policy", "test", write_cases(folder, case(bundle="link"))]) == 0


def test_folder_is_that_of_the_case_file_wherever_the_command_is_run(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = write_cases(folder, case())
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert main(["policy", "test", name]) == 0
    monkeypatch.chdir(folder.path)
    assert main(["policy", "test", Path(name).name]) == 0


def measurements(**changes: Any) -> bytes:
    registers = {name: {"expected": SOFTWARE} for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2")}
    entry = {"measurement_id": "m", "attestation_type": "dcap-tdx", "measurements": registers}
    return json.dumps([entry | changes]).encode()


def test_imported_policy_is_written_to_stdout(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = folder.write("measurements.json", measurements())
    assert main(["policy", "import", name, "--format", "flashbots"]) == 0
    text = capsys.readouterr().out
    assert parse_policy(text.encode()).reference_values[0].name == "m"
    assert main(["policy", "import", name, "--format", "flashbots", "--json"]) == 0
    document = printed(capsys)
    assert document == {"policy": text, "policy_digest": Digest.of(text.encode()).hex}
    assert main([*LINT, folder.write("imported.toml", text.encode())]) == 11


def test_import_that_would_leave_something_open_writes_nothing(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = folder.write("measurements.json", measurements(measurements={}))
    assert main(["policy", "import", name, "--format", "flashbots"]) == 13
    output = capsys.readouterr()
    assert output.out == ""
    assert "measurements.json" in output.err
    assert main(["policy", "import", name]) == 2
    assert main(["policy", "import", name, "--format", "corim"]) == 2


def test_lock_of_the_model_is_compared_in_a_case(folder: Folder) -> None:
    engine = LockedEngine(name="demo-engine", version="1", arguments=("--max-model-len=4096",))
    locks = {
        name: ModelLock(
            model="tiny",
            engine=engine,
            files=(
                LockedFile(
                    path="weights", role=Role.WEIGHTS, size=1, sha256=Digest.of(name.encode())
                ),
            ),
        )
        for name in ("model.lock", "other.lock")
    }
    for name, lock in locks.items():
        folder.write(name, lock.canonical)
    made = Gateway(statement_changes={"model_digest": locks["model.lock"].digest})
    exchanged = made.plain()
    folder.write("bundle.json", made.bundle().encode())
    folder.write("policy.toml", made.policy_toml().encode())
    folder.write("root.pem", made.anchor.certificate.public_bytes(Encoding.PEM))
    told = case(receipt=exchanged.jti, model_lock="model.lock", checks={"MODEL": "pass"})
    wrong = {"model_lock": "other.lock", "verdict": "REJECTED", "failing": ["MODEL"]}
    name = write_cases(folder, told, case(name="other", receipt=exchanged.jti, **wrong))
    assert main(["policy", "test", name]) == 0
    folder.write("model.lock", b"{}")
    assert main(["policy", "test", name]) == 13
