"""Pinned packages: the lock, apt's pins, and what a build is refused for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import image_packages
import pytest
from image_files import ImageError
from image_packages import (
    Package,
    all_cached,
    load_installed,
    load_lock,
    preferences,
    require_locked,
    save_lock,
)


def package(name: str = "systemd", version: str = "257.13-1") -> Package:
    return Package(name=name, version=version, architecture="amd64", sha256="ab" * 32)


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(image_packages, "RECIPE", tmp_path)
    return tmp_path


def installed_from(tmp_path: Path, version: str, content: bytes) -> tuple[Package, ...]:
    manifest = tmp_path / "image.manifest"
    entry = {"name": "passwd", "version": version, "architecture": "amd64"}
    manifest.write_text(json.dumps({"packages": [entry]}))
    name = f"passwd_{version.replace(':', '%3a')}_amd64.deb"
    (tmp_path / name).write_bytes(content)
    return load_installed([manifest], tmp_path)


def test_a_lock_is_read_as_it_was_written() -> None:
    packages = (package("kmod"), package())
    save_lock("cpu", packages)
    assert load_lock("cpu") == packages


def test_a_profile_without_a_lock_is_refused() -> None:
    with pytest.raises(ImageError, match="make image-lock"):
        require_locked("cpu", (package(),))


def test_a_lock_with_a_line_of_three_words_is_refused(recipe: Path) -> None:
    (recipe / "packages.cpu.lock").write_text("systemd 257 amd64\n")
    with pytest.raises(ImageError, match="four words"):
        load_lock("cpu")


def test_another_version_than_the_pinned_one_is_refused_and_both_are_named() -> None:
    save_lock("cpu", (package(),))
    with pytest.raises(ImageError, match=r"pinned systemd 257.13-1(.|\n)*seen   systemd 257.14-1"):
        require_locked("cpu", (package(version="257.14-1"),))


def test_a_package_beyond_the_lock_is_refused() -> None:
    save_lock("cpu", (package(),))
    with pytest.raises(ImageError, match="seen   openssh-server"):
        require_locked("cpu", (package("openssh-server"), package()))


def test_the_same_version_in_another_file_is_refused(tmp_path: Path) -> None:
    save_lock("cpu", installed_from(tmp_path, "1:4.17-2", b"one"))
    require_locked("cpu", installed_from(tmp_path, "1:4.17-2", b"one"))
    with pytest.raises(ImageError, match="are not those pinned"):
        require_locked("cpu", installed_from(tmp_path, "1:4.17-2", b"other"))


def test_digests_are_those_of_the_files_in_apts_cache(tmp_path: Path) -> None:
    (found,) = installed_from(tmp_path, "1:4.17-2", b"a package")
    assert found.sha256 == hashlib.sha256(b"a package").hexdigest()


def test_a_package_whose_file_is_gone_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "image.manifest"
    entry = {"name": "kmod", "version": "34", "architecture": "amd64"}
    manifest.write_text(json.dumps({"packages": [entry]}))
    with pytest.raises(ImageError, match=r"kmod_34_amd64\.deb"):
        load_installed([manifest], tmp_path)


def test_pins_ask_for_versions_even_if_they_are_older() -> None:
    assert preferences((package(),)) == (
        "Package: systemd\nPin: version 257.13-1\nPin-Priority: 1001\n\n"
    )


def test_pinned_packages_in_the_cache_need_no_mirror(tmp_path: Path) -> None:
    save_lock("cpu", installed_from(tmp_path, "1:4.17-2", b"file"))
    assert all_cached("cpu", tmp_path)


@pytest.mark.parametrize("change", ["altered", "gone", "unpinned"])
def test_cache_that_lacks_something_pinned_needs_one(tmp_path: Path, change: str) -> None:
    installed = installed_from(tmp_path, "1:4.17-2", b"file")
    save_lock("cpu", () if change == "unpinned" else installed)
    path = tmp_path / "passwd_1%3a4.17-2_amd64.deb"
    if change == "altered":
        path.write_bytes(b"other")
    elif change == "gone":
        path.unlink()
    assert not all_cached("cpu", tmp_path)
