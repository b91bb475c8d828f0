"""`attested model lock`: folders become locks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from attestation.cli.main import main
from attestation.cli.model_folder import (
    open_folder,
    role_of,
)
from attestation.encoding.digest import Digest
from attestation.statement.model_lock import (
    Role,
    parse_model_lock,
)
from tests.cli.models import FILES, REVISION, made, refused, special, verified


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
    code, problems, document = verified(model, capsys)
    assert (code, problems) == (0, [])
    names = [".cache", ".git", ".gitattributes", "sub/.hidden"]
    assert document["passed_over"] == {"count": 4, "names": names}
    assert made(model) == before
    assert "passed over 4 hidden names: .cache, .git, " in capsys.readouterr().err
    made(model, "--json")
    assert json.loads(capsys.readouterr().out)["passed_over"]["count"] == 4


def test_folder_with_hidden_names_is_not_called_the_model_without_saying_so(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(model)
    capsys.readouterr()
    for number in range(7):
        (model / f".hidden\x1b{number}").write_bytes(b"x")
    code, told = refused(capsys, "verify", model, model.parent / "model.lock")
    assert code == 0
    assert "passed over 7 hidden names: .hidden" in told
    assert ", …" in told
    assert "\x1b" not in told
    assert "the folder is that model, but for the hidden names: 4 files" in told


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


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("fifo", "is neither a file nor a folder"),
        ("dangling", "is a link that leads nowhere"),
        ("loop", "cannot be read"),
        ("link to a folder", "is a link to a folder"),
    ],
)
def test_what_is_no_file_is_refused_by_name(
    model: Path, capsys: pytest.CaptureFixture[str], kind: str, words: str
) -> None:
    made(model)
    special(model, kind)
    code, told = refused(capsys, "lock", model, "--name", "tiny")
    assert (code, f"'special' {words}" in told) == (14, True)
    assert verified(model, capsys)[:2] == (14, [("unreadable", "special")])


@pytest.mark.parametrize("name", ["absent", "tiny/config.json", "a\0b"])
def test_folder_that_is_none_is_a_mistake_as_a_missing_file_is_elsewhere(
    model: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    made(model)
    place, lock = model.parent / name, model.parent / "model.lock"
    for arguments in (
        ("lock", place, "--name", "tiny"),
        ("lock", model, "--name", "tiny", "--links-within", place),
        ("verify", place, lock),
    ):
        code, told = refused(capsys, *arguments)
        assert code == 2
        assert "is not a folder that can be read" in told
    if name == "absent":
        assert main(["verify", str(place)]) == main(["quote", str(place)]) == 2


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


def test_lock_that_exists_is_replaced_only_when_that_is_asked_for(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(model)
    out = model.parent / "model.lock"
    before = out.read_bytes()
    code, told = refused(capsys, "lock", model, "--name", "other", "-o", out)
    assert (code, "--force" in told) == (2, True)
    assert out.read_bytes() == before
    assert main(["model", "lock", str(model), "--name", "other", "-o", str(out), "--force"]) == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize("name", ["absent/model.lock", "a\0b", "."])
def test_lock_that_cannot_be_written_is_a_usage_error(
    model: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = f"{model.parent}/{name}"
    code, told = refused(capsys, "lock", model, "--name", "tiny", "-o", out)
    assert (code, "cannot" in told) == (2, True)
