"""Only what the manifest lists, with its SHA-256, from inside the directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attestation.conformance import files
from attestation.conformance.files import (
    VectorDirectory,
    require_flag,
    require_list,
    require_object,
    require_text,
    unknown_shape,
)
from attestation.errors import UsageError
from tests.conformance.conftest import Build, encoded, item
from tests.refusals import refusal


def rewrite(root: Path, manifest: object) -> VectorDirectory:
    (root / "manifest.json").write_bytes(encoded(manifest))  # type: ignore[arg-type]
    return VectorDirectory(root)


def test_listed_files_are_read_in_the_order_of_the_manifest(build: Build) -> None:
    root = build({"b.json": [1], "a/x.ndjson": '{"k":1}\n\n  \n{"k":2}\n'})
    (root / "unlisted.json").write_text("ignored")
    directory = VectorDirectory(root)
    assert directory.listed_files() == ("b.json", "a/x.ndjson")
    assert directory.read("b.json") == b"[1]"
    assert directory.read_json("b.json") == [1]
    assert directory.read_json_lines("a/x.ndjson") == [{"k": 1}, {"k": 2}]


def test_missing_directory_is_a_usage_error(tmp_path: Path) -> None:
    assert refusal(VectorDirectory, tmp_path / "absent", error=UsageError) == "directory"
    (tmp_path / "file").touch()
    assert refusal(VectorDirectory, tmp_path / "file", error=UsageError) == "directory"
    assert refusal(VectorDirectory, tmp_path / ("a" * 300), error=UsageError) == "directory"


def test_directory_without_manifest_is_rejected(tmp_path: Path) -> None:
    assert refusal(VectorDirectory(tmp_path).listed_files) == "manifest"


def test_directory_reached_through_a_link_is_read(build: Build, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(build({"a": b"x"}))
    assert VectorDirectory(tmp_path / "link").listed_files() == ("a",)


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        pytest.param(b"", "syntax", id="empty"),
        pytest.param(b'{"files":[],"files":[]}', "duplicate_member", id="duplicate member"),
        pytest.param([], "manifest", id="not an object"),
        pytest.param({}, "manifest", id="no files"),
        pytest.param({"files": None}, "manifest", id="files is null"),
        pytest.param({"files": {"a": 1}}, "manifest", id="files is an object"),
        pytest.param({"files": ["a"]}, "manifest", id="an item is a string"),
        pytest.param({"files": [{"sha256": "0" * 64}]}, "manifest", id="no name"),
        pytest.param({"files": [{"file": 1, "sha256": "0" * 64}]}, "manifest", id="no text"),
        pytest.param({"files": [{"file": "a"}]}, "manifest", id="no SHA-256"),
        pytest.param({"files": [{"file": "a", "sha256": "0" * 63}]}, "manifest", id="short"),
        pytest.param({"files": [item("a", b"y")]}, "manifest", id="another SHA-256"),
        pytest.param({"files": [item("absent", b"x")]}, "manifest", id="missing file"),
        pytest.param({"files": [item("a", b"x"), item("./a", b"x")]}, "manifest", id="twice"),
        pytest.param({"files": [item("", b"x")]}, "manifest", id="empty name"),
        pytest.param({"files": [item(".", b"x")]}, "manifest", id="the directory itself"),
        pytest.param({"files": [item("sub", b"x")]}, "manifest", id="a directory"),
        pytest.param({"files": [item("../outside", b"x")]}, "manifest", id="parent"),
        pytest.param({"files": [item("sub/../a", b"x")]}, "manifest", id="parent and back"),
        pytest.param({"files": [item("a\0b", b"x")]}, "manifest", id="NUL in the name"),
        pytest.param({"files": [item("n" * 5000, b"x")]}, "manifest", id="endless name"),
        pytest.param({"files": [item("out", b"x")]}, "manifest", id="link to the outside"),
        pytest.param({"files": [item("outdir/outside", b"x")]}, "manifest", id="linked folder"),
        pytest.param({"files": [item("loop", b"x")]}, "manifest", id="loop of links"),
        pytest.param({"files": [item("pipe", b"x")]}, "manifest", id="pipe"),
    ],
)
def test_odd_manifest_is_rejected(
    build: Build, tmp_path: Path, manifest: object, code: str
) -> None:
    root = build({"a": b"x"})
    (root / "sub").mkdir()
    (tmp_path / "outside").write_bytes(b"x")
    (root / "out").symlink_to("../outside")
    (root / "outdir").symlink_to("..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    assert refusal(rewrite(root, manifest).listed_files) == code


def test_absolute_name_is_rejected_even_if_it_points_inside(build: Build) -> None:
    root = build({"a": b"x"})
    directory = rewrite(root, {"files": [item(str(root / "a"), b"x")]})
    assert refusal(directory.listed_files) == "manifest"


def test_manifest_that_is_a_link_to_the_outside_is_rejected(build: Build, tmp_path: Path) -> None:
    root = build({"a": b"x"})
    (root / "manifest.json").rename(tmp_path / "manifest.json")
    (root / "manifest.json").symlink_to("../manifest.json")
    assert refusal(VectorDirectory(root).listed_files) == "manifest"


def test_link_inside_the_directory_is_followed(build: Build) -> None:
    root = build({"a": b"x"})
    (root / "b").symlink_to("a")
    assert rewrite(root, {"files": [item("b", b"x")]}).listed_files() == ("b",)


def test_file_changed_after_the_check_is_noticed(build: Build) -> None:
    root = build({"a": b"x"})
    directory = VectorDirectory(root)
    directory.listed_files()
    (root / "a").write_bytes(b"y")
    assert refusal(directory.read, "a") == "manifest"
    assert refusal(directory.read, "./a") == "manifest"


def test_unreadable_file_is_rejected(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    directory = VectorDirectory(build({"a": b"x"}))
    monkeypatch.setattr(Path, "read_bytes", fail)
    assert refusal(directory.read, "a") == "manifest"


def test_large_file_is_rejected_unread(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.MAX_FILE_BYTES == 64 * 1024 * 1024
    directory = VectorDirectory(build({"a": b"four"}))
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 4)
    assert directory.read("a") == b"four"
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 3)
    assert refusal(directory.read, "a") == "manifest"


def test_vectors_may_hold_numbers_and_members_beyond_what_the_product_takes(build: Build) -> None:
    big = {str(number): 10**300 for number in range(10_001)}
    directory = VectorDirectory(build({"a": big, "n": b"[" + b"9" * 300 + b"]"}))
    assert directory.read_json("a") == big
    assert directory.read_json("n") == [int("9" * 300)]


def test_line_that_is_no_object_is_rejected(build: Build) -> None:
    directory = VectorDirectory(build({"a": "[]\n", "b": "{}\n{\n"}))
    assert refusal(directory.read_json_lines, "a") == "manifest"
    assert refusal(directory.read_json_lines, "b") == "syntax"


def nested(root: Path, folder: str, manifest: object, files_: dict[str, bytes]) -> None:
    (root / folder).mkdir(parents=True)
    (root / folder / "manifest.json").write_bytes(encoded(manifest))  # type: ignore[arg-type]
    for name, data in files_.items():
        (root / folder / name).write_bytes(data)


def test_entries_of_sub_directories_are_found_beside_their_manifest_or_from_the_top(
    tmp_path: Path,
) -> None:
    nested(tmp_path, "b", {"entries": [item("q.bin", b"1") | {"kind": "quote"}]}, {"q.bin": b"1"})
    nested(tmp_path, "_c", {"entries": [{"file": "_c/x.json"}]}, {"x.json": b"{}"})
    (tmp_path / "plain").mkdir()
    directory = VectorDirectory(tmp_path)
    collateral, quotes = directory.entry_manifests()
    assert (collateral.folder, quotes.folder) == ("_c", "b")
    assert collateral.entries[0].file == "_c/x.json"
    assert quotes.entries[0].file == "b/q.bin"
    assert quotes.entries[0].members["kind"] == "quote"
    assert directory.read("b/q.bin") == b"1"


def test_directory_without_sub_manifests_has_no_entries(tmp_path: Path) -> None:
    assert VectorDirectory(tmp_path).entry_manifests() == ()


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"file": "absent"}, id="missing"),
        pytest.param(item("q.bin", b"2"), id="another SHA-256"),
        pytest.param({"file": "q.bin", "sha256": "x"}, id="no SHA-256"),
        pytest.param({"file": "../q.bin"}, id="parent"),
        pytest.param({"file": "/etc/hostname"}, id="absolute"),
        pytest.param({}, id="no name"),
        pytest.param({"file": "n" * 5000}, id="endless name"),
        pytest.param({"file": "a\0b"}, id="NUL in the name"),
    ],
)
def test_odd_entry_is_rejected(tmp_path: Path, entry: dict[str, object]) -> None:
    nested(tmp_path, "b", {"entries": [entry]}, {"q.bin": b"1"})
    assert refusal(VectorDirectory(tmp_path).entry_manifests) == "manifest"


def test_sub_manifest_without_entries_is_rejected(tmp_path: Path) -> None:
    nested(tmp_path, "b", {"files": []}, {})
    assert refusal(VectorDirectory(tmp_path).entry_manifests) == "manifest"


def test_members_of_a_case_are_of_their_type_or_refused() -> None:
    assert require_object({"a": 1}, "x") == {"a": 1}
    assert require_list([{}], "x") == [{}]
    assert require_text({"a": "b"}, "a", "x") == "b"
    assert require_flag({"a": False}, "a", "x") is False
    assert refusal(require_object, [], "x") == "manifest"
    assert refusal(require_list, {}, "x") == "manifest"
    assert refusal(require_list, [1], "x") == "manifest"
    assert refusal(require_text, {"a": 1}, "a", "x") == "manifest"
    assert refusal(require_text, {}, "a", "x") == "manifest"
    assert refusal(require_flag, {"a": 1}, "a", "x") == "manifest"
    assert unknown_shape("x").exit_code == 13
