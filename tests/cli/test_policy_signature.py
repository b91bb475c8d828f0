"""`--policy-signer`, `attested policy key` and `policy sign` as they are typed."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestation.cli.main import main
from attestation.encoding.digest import Digest
from attestation.merkle.note import parse_note, parse_vkey, verify_note
from attestation.merkle.note_key import parse_note_key
from tests.cli.logs import Boot
from tests.cli.support import AT, Folder, Stdin, printed
from tests.support.bundles import NOW

VERSION = b'version = "2026-11-22"\n'
LINT = ["policy", "lint", "--at", str(NOW)]


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder in which `signed.toml` was signed by the key in `ours`."""

    folder: Folder
    policy: str
    signature: Path
    ours: str
    theirs: str
    vkey: str

    def signer(self, *keys: str, policy: str | None = None) -> list[str]:
        flags = [flag for key in keys for flag in ("--policy-signer", key)]
        return ["--policy", policy or self.policy, *flags]

    def verify(self, *keys: str, more: tuple[str, ...] = ()) -> int:
        bundle = self.folder["bundle.json"]
        root = self.folder["root.pem"]
        return main(["verify", bundle, "--root", root, *AT, *self.signer(*keys), *more])


def make_key(folder: Folder, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["policy", "key", "--name", name, "-o", folder[f"{name}.key"]]) == 0
    vkey = capsys.readouterr().out
    folder.write(f"{name}.vkey", vkey.encode())
    return vkey.strip()


@pytest.fixture
def desk(folder: Folder, capsys: pytest.CaptureFixture[str]) -> Desk:
    vkey = make_key(folder, "ours", capsys)
    make_key(folder, "theirs", capsys)
    policy = folder.write("signed.toml", VERSION + folder.gateway.policy_toml().encode())
    assert main(["policy", "sign", policy, "--key", folder["ours.key"]]) == 0
    assert vkey in capsys.readouterr().out
    return Desk(
        folder=folder,
        policy=policy,
        signature=Path(policy + ".sig"),
        ours=folder["ours.vkey"],
        theirs=folder["theirs.vkey"],
        vkey=vkey,
    )


def sign(desk: Desk, *arguments: str, key: str = "ours") -> int:
    return main(["policy", "sign", desk.policy, "--key", desk.folder[f"{key}.key"], *arguments])


def unsigned(desk: Desk) -> None:
    desk.signature.unlink()


def no_file(desk: Desk) -> None:
    desk.signature.unlink()
    desk.signature.mkdir()


def no_note(desk: Desk) -> None:
    desk.signature.write_bytes(b"signed, believe me\n")


def by_another(desk: Desk) -> None:
    assert sign(desk, "--force", key="theirs") == 0


def of_another_policy(desk: Desk) -> None:
    other = desk.folder.write("other.toml", VERSION + b"# other\n" + Path(desk.policy).read_bytes()
                              .removeprefix(VERSION))  # fmt: skip
    key = desk.folder["ours.key"]
    assert main(["policy", "sign", other, "--key", key, "-o", str(desk.signature), "--force"]) == 0


def one_byte_more(desk: Desk) -> None:
    with Path(desk.policy).open("ab") as file:
        file.write(b"\n")


BROKEN: list[tuple[Callable[[Desk], None], int]] = [
    (unsigned, 14),
    (no_file, 14),
    (no_note, 13),
    (by_another, 10),
    (of_another_policy, 10),
    (one_byte_more, 10),
]


def test_policy_signed_by_the_key_is_used_and_the_report_names_the_key(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.verify(desk.ours) == 15
    assert '(version "2026-11-22"), signed by ours\n' in capsys.readouterr().out
    assert desk.verify(desk.vkey, more=("--json",)) == 15
    value = printed(capsys)
    assert value["policy_signers"] == [desk.vkey]
    assert value["policy_version"] == "2026-11-22"
    assert value["policy_digest"] == Digest.of(Path(desk.policy).read_bytes()).hex


def test_without_the_option_nothing_is_asked_of_a_policy_and_the_report_says_so(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    by_another(desk)
    capsys.readouterr()
    assert desk.verify() == 15
    assert "its signature not checked\n" in capsys.readouterr().out
    assert desk.verify(more=("--json",)) == 15
    assert printed(capsys)["policy_signers"] is None


def test_one_of_several_keys_is_enough(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.verify(desk.theirs, desk.ours, more=("--json",)) == 15
    assert printed(capsys)["policy_signers"] == [desk.vkey]


def test_file_that_does_not_parse_names_the_policy_and_its_signer_too(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = desk.folder.write("bad.json", b"{")
    arguments = ["verify", bad, *desk.signer(desk.ours), "--json"]
    assert main(arguments) == 13
    assert printed(capsys)["policy_signers"] == [desk.vkey]


@pytest.mark.parametrize(("breaking", "code"), BROKEN)
def test_policy_that_is_not_authentic_ends_every_command_before_anything_is_verified(
    desk: Desk,
    breaking: Callable[[Desk], None],
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    breaking(desk)
    folder, signer = desk.folder, desk.signer(desk.ours)
    boot = Boot(tmp_path / "data", folder.gateway)
    quote = folder.write("quote.bin", folder.gateway.evidence.quote)
    cases = folder.write("cases.toml", b"""schema = "policy-cases/1"
policy = "signed.toml"
[[cases]]
name = "one"
bundle = "bundle.json"
roots = ["root.pem"]
at = 2100-01-01
verdict = "NOT-ACCEPTED"
""")  # fmt: skip
    capsys.readouterr()
    root = ["--root", folder["root.pem"], *AT]
    state = str(tmp_path / "state.json")
    for command in (
        ["verify", folder["bundle.json"], *root, *signer],
        ["quote", quote, *root, *signer],
        ["eventlog", folder["bundle.json"], *signer],
        ["log", "verify", boot.path, *root, *signer],
        ["log", "verify", boot.path, "--vkey", boot.log.vkey_text, *signer],
        ["log", "monitor", boot.path, "--state", state, *root, *signer],
        ["policy", "test", cases, *signer],
        ["policy", "test", cases, *signer[2:]],
    ):
        assert main(command) == code, command
        seen = capsys.readouterr()
        assert seen.out == ""
        assert "policy" in seen.err
    assert not Path(state).exists()


def test_authentic_policy_is_taken_by_every_command(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, signer = desk.folder, desk.signer(desk.ours)
    root = ["--root", folder["root.pem"], *AT]
    boot = Boot(tmp_path / "data", folder.gateway)
    quote = folder.write("quote.bin", folder.gateway.evidence.quote)
    assert main(["eventlog", folder["bundle.json"], *signer]) == 15
    assert main(["log", "verify", boot.path, *root, *signer]) == 15
    assert main(["log", "verify", boot.path, "--vkey", boot.log.vkey_text, *signer]) == 0
    capsys.readouterr()
    main(["quote", quote, *root, *signer, "--json"])
    assert printed(capsys)["policy_signers"] == [desk.vkey]


def test_signer_without_a_file_to_be_signed_is_a_usage_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = desk.folder["bundle.json"]
    assert main(["verify", bundle, "--policy-signer", desk.ours]) == 2
    monkeypatch.setattr("sys.stdin", Stdin(Path(desk.policy).read_bytes()))
    monkeypatch.chdir(desk.folder.path)
    desk.signature.rename("-.sig")
    assert main(["verify", bundle, *desk.signer(desk.ours, policy="-")]) == 2
    boot = Boot(desk.folder.path / "data", desk.folder.gateway)
    assert main(["log", "verify", boot.path, "--policy-signer", desk.ours]) == 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 13),
        (b"nothing", 13),
        (b"ours+00000000+AYUlv/Gdb+ggWwhW2Ki798eGzuiVrvOQQk6UwM7UHgmF\n", 13),
        ("√".encode(), 13),
        (b"PRIVATE+KEY+ours+40c8fb90+AYUlv/Gdb+ggWwhW2Ki798eGzuiVrvOQQk6UwM7UHgmF\n", 13),
    ],
)
def test_signer_that_is_no_verifier_key_is_malformed(desk: Desk, data: bytes, code: int) -> None:
    assert desk.verify(desk.folder.write("bad.vkey", data)) == code


def test_signer_that_is_neither_key_nor_file_is_a_usage_error(desk: Desk) -> None:
    assert desk.verify(desk.folder["absent.vkey"]) == 2
    assert desk.verify(desk.vkey.replace("ours", "other")) == 13


def test_key_is_for_its_owner_alone_and_replaces_nothing(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = folder["new.key"]
    command = ["policy", "key", "--name", "example.com/policy", "-o", name]
    assert main([*command, "--json"]) == 0
    printed_key = printed(capsys)
    key = parse_note_key(Path(name).read_bytes())
    assert printed_key == {"file": name, "vkey": key.vkey}
    assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
    assert parse_vkey(printed_key["vkey"]).name == "example.com/policy"
    before = Path(name).read_bytes()
    assert main(command) == 2
    assert Path(name).read_bytes() == before
    shown = capsys.readouterr()
    assert shown.out == ""
    # `policy key` has no --force: the hint does not send people to it.
    assert "is never replaced" in shown.err
    assert "--force" not in shown.err


def test_every_key_is_another_one(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert len({make_key(folder, name, capsys).split("+")[2] for name in "abc"}) == 3


@pytest.mark.parametrize(("name", "output", "code"), [("a b", "k", 13), ("a+b", "k", 13),
                                                      ("", "k", 13), ("a", "-", 2)])  # fmt: skip
def test_key_without_a_name_or_a_file_is_not_made(
    folder: Folder, name: str, output: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    where = output if output == "-" else folder[output]
    assert main(["policy", "key", "--name", name, "-o", where]) == code
    assert capsys.readouterr().out == ""
    assert not Path(folder["k"]).exists()


def test_signature_says_digest_and_version_and_nothing_else(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = Digest.of(Path(desk.policy).read_bytes()).hex
    note = parse_note(desk.signature.read_bytes())
    assert note.text == (
        f"attested-gateway appraisal-policy/1\nsha256 {digest}\nversion 2026-11-22\n"
    )
    assert verify_note(note, [parse_vkey(desk.vkey)])
    other = desk.folder["elsewhere.sig"]
    assert sign(desk, "-o", other, "--json") == 0
    assert printed(capsys) == {
        "file": other,
        "policy_digest": digest,
        "policy_version": "2026-11-22",
        "policy_signers": [desk.vkey],
    }
    assert Path(other).read_bytes() == desk.signature.read_bytes()


def test_signature_is_replaced_only_on_purpose(desk: Desk) -> None:
    before = desk.signature.read_bytes()
    assert sign(desk, key="theirs") == 2
    assert desk.signature.read_bytes() == before
    assert sign(desk, "--force", key="theirs") == 0
    assert desk.signature.read_bytes() != before
    assert desk.verify(desk.ours) == 10
    assert desk.verify(desk.theirs) == 15


def test_second_signature_stands_beside_the_first(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign(desk, "--add", key="theirs") == 0
    capsys.readouterr()
    assert desk.verify(desk.theirs, desk.ours) == 15
    assert "signed by ours, theirs\n" in capsys.readouterr().out
    at_once = desk.folder["both.sig"]
    both = ["--key", desk.folder["theirs.key"], "-o", at_once]
    assert sign(desk, *both) == 0
    assert Path(at_once).read_bytes() == desk.signature.read_bytes()


def test_signature_of_another_state_of_the_policy_is_not_added_to(desk: Desk) -> None:
    one_byte_more(desk)
    before = desk.signature.read_bytes()
    assert sign(desk, "--add", key="theirs") == 2
    assert desk.signature.read_bytes() == before
    unsigned(desk)
    assert sign(desk, "--add") == 2


def test_what_cannot_be_signed_leaves_no_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, key = desk.folder, desk.folder["ours.key"]
    monkeypatch.setattr("sys.stdin", Stdin(Path(key).read_bytes()))
    plain = folder["policy.toml"]
    bad = folder.write("bad.toml", b"schema = 1")
    assert main(["policy", "sign", plain, "--key", key]) == 13
    assert main(["policy", "sign", bad, "--key", key]) == 13
    assert main(["policy", "sign", "-", "--key", key]) == 2
    assert main(["policy", "sign", desk.policy, "--key", key, "-o", "-"]) == 2
    assert main(["policy", "sign", desk.policy, "--key", "-", "--key", "-", "--force"]) == 2
    assert main(["policy", "sign", desk.policy, "--key", desk.ours, "--force"]) == 13
    assert not Path(plain + ".sig").exists()
    assert not Path(bad + ".sig").exists()
    assert desk.verify(desk.ours) == 15


def test_lint_tells_whom_a_signature_names_and_that_nobody_checked(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*LINT, desk.policy])
    told = capsys.readouterr().out
    assert "note: (signature) [signature_unchecked]" in told
    assert "it names " + "+".join(desk.vkey.split("+")[:2]) in told


def test_lint_says_nothing_of_signatures_where_there_is_none(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk.folder.path)
    desk.signature.rename("-.sig")
    monkeypatch.setattr("sys.stdin", Stdin(Path(desk.policy).read_bytes()))
    main([*LINT, desk.policy])
    main([*LINT, "-"])
    assert "signature" not in capsys.readouterr().out


def test_lint_checks_a_signature_by_the_key_that_is_given(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*LINT, desk.policy, "--policy-signer", desk.ours])
    told = capsys.readouterr().out
    assert "note: (signature) [signed]" in told
    assert "error: " not in told
    assert desk.vkey in told.replace("\n    ", "")


@pytest.mark.parametrize(("breaking", "code"), BROKEN)
def test_lint_calls_a_signature_that_would_be_refused_an_error(
    desk: Desk,
    breaking: Callable[[Desk], None],
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    breaking(desk)
    capsys.readouterr()
    assert main([*LINT, desk.policy, "--policy-signer", desk.ours, "--json"]) == 11, code
    (file,) = printed(capsys)["files"]
    assert file["findings"][0]["code"] == "signature"
    assert file["findings"][0]["severity"] == "error"


@pytest.mark.parametrize("breaking", [no_note, of_another_policy, one_byte_more])
def test_lint_needs_no_key_to_see_that_a_signature_is_of_something_else(
    desk: Desk, breaking: Callable[[Desk], None], capsys: pytest.CaptureFixture[str]
) -> None:
    breaking(desk)
    capsys.readouterr()
    assert main([*LINT, desk.policy, "--json"]) == 11
    (file,) = printed(capsys)["files"]
    assert file["findings"][0]["code"] == "signature"


def signed_version(desk: Desk, version: str, *, more: str = "") -> list[str]:
    text = f'version = "{version}"\n{desk.folder.gateway.policy_toml()}{more}'
    policy = desk.folder.write(f"{version}{len(more)}.toml", text.encode())
    assert main(["policy", "sign", policy, "--key", desk.folder["ours.key"], "--force"]) == 0
    return desk.signer(desk.ours, policy=policy)


def test_older_policy_of_a_signer_is_refused_after_a_newer_one_with_high_water(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    memory, root = desk.folder["mark"], ["--root", desk.folder["root.pem"], *AT]
    quote = desk.folder.write("quote.bin", desk.folder.gateway.evidence.quote)

    def verify(grounds: list[str], *more: str) -> int:
        return main(["verify", desk.folder["bundle.json"], *grounds, *root, *more])

    nine, ten = signed_version(desk, "2026-9"), signed_version(desk, "2026-10")
    other = signed_version(desk, "2026-10", more="# changed\n")
    assert verify(nine, "--high-water", memory) == 15
    assert verify(ten, "--high-water", memory) == 15
    capsys.readouterr()
    assert verify(nine, "--high-water", memory) == 10
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "older than one of 'ours'" in seen.err
    assert main(["quote", quote, *nine, *root, "--high-water", memory]) == 10
    assert verify(other, "--high-water", memory) == 10
    assert verify(ten, "--high-water", memory) == 15
    # Nobody asks whose it is, or what was seen before.
    assert verify(nine[:2], "--high-water", memory) == 15
    assert verify(nine) == 15


def test_policy_is_remembered_even_if_the_file_that_it_is_used_on_is_none(desk: Desk) -> None:
    memory, bad = desk.folder["mark"], desk.folder.write("bad.json", b"{")
    five, four = signed_version(desk, "5"), signed_version(desk, "4")
    assert main(["verify", bad, *five, "--high-water", memory]) == 13
    assert main(["verify", bad, *four, "--high-water", memory]) == 10
    before = Path(memory).read_bytes()
    assert main(["verify", bad, *five, "--high-water", memory]) == 13
    assert Path(memory).read_bytes() == before


@pytest.mark.parametrize("name", ["ours\x01", "o" * (1 << 17)], ids=["control", "long"])
def test_key_of_a_name_that_no_note_can_hold_is_not_made(
    folder: Folder, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    key = folder["new.key"]
    assert main(["policy", "key", "--name", name, "-o", key]) == 13
    assert "could sign nothing" in capsys.readouterr().err
    assert not Path(key).exists()
