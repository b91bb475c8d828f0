"""`attested model`: folders become locks, and every difference from a lock is named."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.cli import progress
from attestation.cli.main import main
from attestation.cli.model_folder import (
    BLOCK_BYTES,
    Entry,
    hash_files,
    open_folder,
    role_of,
    survey,
)
from attestation.encoding.digest import Digest
from attestation.errors import UnavailableError
from attestation.statement.model_lock import (
    LockedEngine,
    LockedFile,
    ModelLock,
    Role,
    parse_model_lock,
)
from tests.support.bundles import NOW, Gateway

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "chat_template.jinja": b"{{ messages }}",
    "config.json": b"{}",
    "model-00001.safetensors": b"w" * (BLOCK_BYTES + 7),
    "sub/tokenizer.json": b"{}",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def made(folder: Path, *more: str) -> ModelLock:
    """Lock a folder with the command, into a file beside it."""
    out = folder.parent / "model.lock"
    assert main(["model", "lock", str(folder), "--name", "tiny", "-o", str(out), *more]) == 0
    return parse_model_lock(out.read_bytes())


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["model", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def verified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[tuple[str, str]], dict[str, Any]]:
    """Verify a folder against the lock beside it: exit code, problems, the whole document."""
    code, output = refused(capsys, "verify", folder, folder.parent / "model.lock", "--json")
    document = json.loads(output)
    assert document["exit_code"] == code
    return code, [(one["problem"], one["path"]) for one in document["problems"]], document


# Lock


def test_lock_lists_every_file_with_role_size_and_digest(model: Path) -> None:
    lock = made(model)
    assert {file.path: file.role for file in lock.files} == {
        "chat_template.jinja": Role.CHAT_TEMPLATE,
        "config.json": Role.CONFIG,
        "model-00001.safetensors": Role.WEIGHTS,
        "sub/tokenizer.json": Role.TOKENIZER,
    }
    assert {file.path: (file.size, file.sha256) for file in lock.files} == {
        name: (len(data), Digest.of(data)) for name, data in FILES.items()
    }


def test_model_digest_that_is_printed_is_that_of_the_file(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(model)
    digest = hashlib.sha256((model.parent / "model.lock").read_bytes()).hexdigest()
    assert capsys.readouterr().out.startswith(f"{digest}  tiny: 4 files")
    made(model, "--json")
    assert json.loads(capsys.readouterr().out)["digest"] == digest


def test_lock_goes_to_standard_output_by_default(
    model: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["model", "lock", str(model), "--name", "tiny"]) == 0
    assert parse_model_lock(capfdbinary.readouterr().out) == made(model)


def test_engine_arguments_are_taken_from_flags_then_from_the_file(model: Path) -> None:
    listed = model.parent / "engine.args"
    listed.write_text('--dtype=bfloat16\n\n--override={"a": 1}\n')
    lock = made(
        model, "--engine", "vllm==0.32.0", "--arg=--seed=1", "--arg=x", "--args-file", str(listed)
    )
    assert lock.engine is not None
    assert (lock.engine.name, lock.engine.version) == ("vllm", "0.32.0")
    assert lock.engine.arguments == ("--seed=1", "x", "--dtype=bfloat16", '--override={"a": 1}')


def test_source_is_what_the_flags_say(model: Path) -> None:
    lock = made(model, "--repo", "org/tiny", "--revision", REVISION)
    assert str(lock.source) == f"org/tiny@{REVISION}"


def test_hidden_files_and_folders_are_passed_over(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made(model)
    for name in (".git/config", ".cache/huggingface/x.metadata", ".gitattributes", "sub/.hidden"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(b"x")
    assert verified(model, capsys)[:2] == (0, [])
    assert made(model) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--repo", "org/tiny"], 2),
        (["--arg", "x"], 2),
        (["--engine", "vllm"], 2),
        (["--name", "two words"], 2),
        (["--engine", "vllm==" + "1" * 25], 13),
        (["--engine", "vllm==1", "--arg=a\x07b"], 13),
        (["--repo", "org tiny", "--revision", "1"], 13),
        (["-o", "tiny/model.lock"], 2),
        (["-o", "absent/model.lock"], 2),
    ],
)
def test_lock_that_could_not_be_read_back_is_not_written(
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
) -> None:
    monkeypatch.chdir(model.parent)
    assert refused(capsys, "lock", model, "--name", "tiny", *arguments)[0] == code
    assert not list(model.parent.rglob("model.lock"))


def test_file_of_arguments_is_text(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = model.parent / "engine.args"
    listed.write_bytes(b"--a=\xff\n")
    arguments = ("--engine", "vllm==1", "--args-file", listed)
    assert refused(capsys, "lock", model, "--name", "tiny", *arguments)[0] == 13


def test_model_without_a_name_is_asked_for_one(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = refused(capsys, "lock", model)
    assert (code, "--name" in told) == (2, True)


def test_folder_without_weights_is_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    code, told = refused(capsys, "lock", tmp_path, "--name", "tiny")
    assert (code, "weights" in told) == (2, True)


def test_names_that_differ_in_case_only_are_refused(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "Config.json").write_text("{}")
    code, told = refused(capsys, "lock", model, "--name", "tiny")
    assert (code, "more than case" in told) == (13, True)


def test_name_that_is_no_text_is_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(model)
    (model / os.fsdecode(b"\xff\x1b[2J")).write_bytes(b"x")
    assert refused(capsys, "lock", model, "--name", "tiny")[0] == 13
    code, told = refused(capsys, "verify", model, model.parent / "model.lock")
    assert code == 14
    assert "\x1b" not in told
    assert verified(model, capsys)[1] == [("unreadable", "\\udcff\x1b[2J")]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.safetensors", Role.WEIGHTS),
        ("adapter_model.bin", Role.WEIGHTS),
        ("tiny.Q4_K_M.GGUF", Role.WEIGHTS),
        ("model.safetensors.index.json", Role.CONFIG),
        ("tokenizer_config.json", Role.TOKENIZER),
        ("tokenizer.model", Role.TOKENIZER),
        ("vocab.json", Role.TOKENIZER),
        ("merges.txt", Role.TOKENIZER),
        ("special_tokens_map.json", Role.TOKENIZER),
        ("qwen.tiktoken", Role.TOKENIZER),
        ("chat_template.json", Role.CHAT_TEMPLATE),
        ("additional_chat_templates/tool_use.jinja", Role.CHAT_TEMPLATE),
        ("generation_config.json", Role.GENERATION_CONFIG),
        ("preprocessor_config.json", Role.CONFIG),
        ("modeling_tiny.py", Role.OTHER),
        ("README.md", Role.OTHER),
    ],
)
def test_role_follows_from_the_name(name: str, role: Role) -> None:
    assert role_of(name) is role


# A Hugging Face cache: snapshots are links to blobs


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    cache = tmp_path / "hub" / "models--org--tiny"
    snapshot = cache / "snapshots" / REVISION
    (cache / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, (name, data) in enumerate({"config.json": b"{}", "m.safetensors": b"w"}.items()):
        (cache / "blobs" / str(number)).write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_snapshot_of_a_cache_names_its_repository_and_follows_its_blobs(cached: Path) -> None:
    out = cached.parents[2] / "model.lock"
    assert main(["model", "lock", str(cached), "-o", str(out)]) == 0
    lock = parse_model_lock(out.read_bytes())
    assert (lock.model, str(lock.source)) == ("org/tiny", f"org/tiny@{REVISION}")
    assert [file.sha256 for file in lock.files] == [Digest.of(b"{}"), Digest.of(b"w")]
    assert main(["model", "verify", str(cached), str(out)]) == 0


@pytest.mark.parametrize(
    "place",
    [
        "models--org--tiny/snapshots/main",
        f"models--org--tiny/blobs/{REVISION}",
        f"x/snapshots/{REVISION}",
    ],
)
def test_folder_that_only_looks_like_a_cache_is_an_ordinary_one(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    folder = open_folder(str(tmp_path / place), None)
    assert folder.source is None
    assert folder.within == folder.path


def test_link_out_of_the_folder_is_followed_only_where_it_was_said(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = model.parent / "blobs"
    outside.mkdir()
    (outside / "0").write_bytes(b"w")
    (model / "linked.safetensors").symlink_to("../blobs/0")
    code, told = refused(capsys, "lock", model, "--name", "tiny")
    assert (code, "--links-within" in told) == (14, True)
    lock = made(model, "--links-within", str(model.parent))
    assert "linked.safetensors" in {file.path for file in lock.files}
    assert verified(model, capsys)[:2] == (14, [("unreadable", "linked.safetensors")])


def special(folder: Path, kind: str) -> None:
    place = folder / "special"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "dangling":
        place.symlink_to("nowhere")
    elif kind == "loop":
        place.symlink_to("special")
    else:
        place.symlink_to("sub")


@pytest.mark.parametrize("kind", ["fifo", "dangling", "loop", "link to a folder"])
def test_what_is_no_file_is_refused_by_name(
    model: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    made(model)
    special(model, kind)
    code, told = refused(capsys, "lock", model, "--name", "tiny")
    assert (code, "'special'" in told) == (14, True)
    assert verified(model, capsys)[:2] == (14, [("unreadable", "special")])


@pytest.mark.parametrize("name", ["absent", "tiny/config.json", "a\0b"])
def test_folder_that_is_none_is_said_to_be_none(
    model: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert refused(capsys, "lock", model.parent / name, "--name", "tiny")[0] == 14


def test_folders_below_every_path_of_a_lock_are_refused(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "/".join("d" * 600)).mkdir(parents=True)
    code, told = refused(capsys, "lock", model, "--name", "tiny")
    assert (code, "nested too deeply" in told) == (14, True)


def test_folder_that_cannot_be_listed_is_said_so(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_path: object) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "scandir", forbidden)
    code, told = refused(capsys, "lock", model, "--name", "tiny")
    assert (code, "Permission denied" in told) == (14, True)


# Verify


def test_folder_that_is_the_model_is_said_to_be_it(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = made(model, "--engine", "vllm==0.32.0", "--repo", "org/tiny", "--revision", "1")
    assert verified(model, capsys)[2]["lock"] == lock.facts()
    code, told = refused(capsys, "verify", model, model.parent / "model.lock")
    assert code == 0
    assert "vllm/0.32.0" in told
    assert "the folder is that model: 4 files, 4.2 MB" in told


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("config.json", b"[]", "changed"),
        ("config.json", b"{} ", "changed"),
        ("config.json", None, "missing"),
        ("extra.py", b"import os", "extra"),
        ("sub/tokenizer.json", b"[]", "changed"),
        ("model-00001.safetensors", b"w" * (BLOCK_BYTES + 6) + b"v", "changed"),
    ],
)
def test_every_difference_is_named(
    model: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    data: bytes | None,
    kind: str,
) -> None:
    made(model)
    if data is None:
        (model / name).unlink()
    else:
        (model / name).write_bytes(data)
    assert verified(model, capsys)[:2] == (10, [(kind, name)])
    told = refused(capsys, "verify", model, model.parent / "model.lock")[1]
    assert name in told
    assert "not that model: 1 problems" in told


def test_mismatch_outweighs_what_cannot_be_read(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(model)
    (model / "config.json").write_bytes(b"[]")
    special(model, "fifo")
    code, problems, _ = verified(model, capsys)
    assert (code, len(problems)) == (10, 2)


def test_lock_that_is_none_is_malformed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = model.parent / "model.lock"
    lock.write_text("{}")
    assert refused(capsys, "verify", model, lock)[0] == 13


def test_listed_file_that_became_special_is_named_once(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(model)
    (model / "config.json").unlink()
    os.mkfifo(model / "config.json")
    assert verified(model, capsys)[:2] == (14, [("unreadable", "config.json")])


# Reading


def told_while_reading(place: Path, change: Any) -> UnavailableError:
    entry = Entry(path="w", place=place, size=place.stat().st_size)
    ((_, answer),) = hash_files([entry], lambda _count: change())
    assert isinstance(answer, UnavailableError)
    return answer


def test_file_that_grows_while_it_is_read_has_no_digest(model: Path) -> None:
    place = model / "model-00001.safetensors"

    def append() -> None:
        if place.stat().st_size < 2 * BLOCK_BYTES:
            with place.open("ab") as file:
                file.write(b"x" * BLOCK_BYTES)

    assert told_while_reading(place, append).code == "model_changed"


def test_file_that_is_overwritten_while_it_is_read_has_no_digest(model: Path) -> None:
    place = model / "model-00001.safetensors"
    os.utime(place, ns=(1, 1))

    def overwrite() -> None:
        with place.open("r+b") as file:
            file.write(b"v")

    assert told_while_reading(place, overwrite).code == "model_changed"


def test_file_that_changed_between_survey_and_reading_has_no_digest(model: Path) -> None:
    (entry, *_) = survey(open_folder(str(model), None)).entries
    ((_, answer),) = hash_files([replace(entry, size=entry.size + 1)], lambda _count: None)
    assert isinstance(answer, UnavailableError)


def test_file_that_is_gone_or_a_link_by_now_is_named(model: Path) -> None:
    place = model / "config.json"
    entry = Entry(path="config.json", place=place, size=2)
    place.unlink()
    place.symlink_to("sub/tokenizer.json")
    ((_, answer),) = hash_files([entry], lambda _count: None)
    assert isinstance(answer, UnavailableError)
    assert "config.json" in answer.message


def test_command_stops_at_the_file_it_cannot_read(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(model)
    genuine = os.open

    def failing(path: Any, flags: int, *more: Any) -> int:
        if str(path).endswith("config.json"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return genuine(path, flags, *more)

    monkeypatch.setattr(os, "open", failing)
    assert refused(capsys, "lock", model, "--name", "tiny")[0] == 14
    assert verified(model, capsys)[:2] == (14, [("unreadable", "config.json")])


# Progress


class Screen(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, moments: list[float]) -> str:
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter([0.0, *moments])
    told = progress.Bytes("hashed", 4000, lambda: next(clock))
    for _ in moments:
        told.add(1000)
    told.close()
    return screen.getvalue()


def test_short_run_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        assert shown(monkeypatch, terminal=terminal, moments=[0.5, 1.9]) == ""


def test_long_run_draws_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True, moments=[1.0, 2.0, 2.1, 4.0])
    first, second, _ = (part.strip() for part in [*text.split("\r")[1:], "x"])
    assert first == "hashed 2.0 kB of 4.0 kB, 1.0 kB/s"
    assert second == "hashed 4.0 kB of 4.0 kB, 1.0 kB/s"
    assert text.endswith("\n")


def test_long_run_writes_few_lines_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=False, moments=[2.0, 10.0, 31.9, 40.0])
    assert [line.split(",")[0] for line in text.splitlines()] == [
        "hashed 1.0 kB of 4.0 kB",
        "hashed 4.0 kB of 4.0 kB",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1.5e9, "1.5 GB"), (2e15, "2000.0 TB")],
)
def test_sizes_are_readable(count: float, text: str) -> None:
    assert progress.readable(count) == text


# attested verify --model-lock


def test_verify_compares_every_receipt_with_the_lock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = LockedFile(path="w.bin", role=Role.WEIGHTS, sha256=Digest.of(b"w"), size=1)
    engine = LockedEngine(name="demo-engine", version="1", arguments=("--max-model-len=4096",))
    lock = ModelLock(model="tiny", files=(file,), engine=engine)
    gateway = Gateway(statement_changes={"model_digest": lock.digest})
    gateway.plain()
    gateway.plain()
    pem = gateway.anchor.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "bundle.json").write_bytes(gateway.bundle().encode())
    (tmp_path / "policy.toml").write_text(gateway.policy_toml())
    (tmp_path / "root.pem").write_bytes(pem)
    (tmp_path / "model.lock").write_bytes(lock.canonical)
    (tmp_path / "other.lock").write_bytes(replace(lock, model="other").canonical)
    (tmp_path / "none.lock").write_text("{}")
    grounds = ["--policy", str(tmp_path / "policy.toml"), "--root", str(tmp_path / "root.pem")]
    told = ["verify", str(tmp_path / "bundle.json"), *grounds, "--at", str(NOW + 60), "--json"]
    codes = {}
    for name in ("model.lock", "other.lock", "none.lock"):
        capsys.readouterr()
        codes[name] = main([*told, "--model-lock", str(tmp_path / name)])
        if name == "model.lock":
            facts = json.loads(capsys.readouterr().out)["facts"]["receipts"]
            assert [one["model_lock"]["model"] for one in facts] == ["tiny", "tiny"]
    assert codes == {"model.lock": 15, "other.lock": 10, "none.lock": 13}
