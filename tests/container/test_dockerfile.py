"""The Dockerfile keeps its rules; no container engine is needed to see that."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.container.dockerfiles import faults, ignored, read

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_dockerfile_keeps_its_rules() -> None:
    assert list(faults(TEXT, ROOT)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ARG PYTHON_IMAGE\n\nFROM", "ARG PYTHON_IMAGE=python:3.13\n\nFROM"),
        ("FROM ${PYTHON_IMAGE} AS build", "FROM python:3.13-slim AS build"),
        ("FROM scratch\n", "FROM ${PYTHON_IMAGE}\n"),
        ("USER 65532:65532", "USER root"),
        ("USER 65532:65532", "USER 0:0"),
        ("USER 65532:65532\n", ""),
        ('"--require-hashes", "--only-binary=:all:", ', ""),
        ("COPY gateway/ gateway/", "ADD gateway/ gateway/"),
        ("COPY gateway/ gateway/", "COPY gatewai/ gateway/"),
        ("COPY gateway/ gateway/", "COPY tests/ tests/"),
        ("COPY --from=build", "COPY --from=busybox"),
        ('RUN ["python3", "-I", "enclave_image/container/by_digest.py"]', ""),
        ("ENV LANG=C.UTF-8", "ENV API_KEY=x"),
        ("ENV LANG=C.UTF-8", "RUN echo"),
        ('RUN ["python3", "-m", "venv", "/build"]', "RUN python3 -m venv /build"),
        ('RUN ["python3", "-m", "venv", "/build"]', 'RUN ["apt-get", "install", "gcc"]'),
        ("# The gateway as", "# syntax=docker/dockerfile:1\n# The gateway as"),
        ('ENTRYPOINT ["/usr/lib/attested/bin/attested"]\n', ""),
        ("ENV LANG=C.UTF-8", "ENV PIP_INDEX_URL=https://mirror.example.com/simple"),
        ("STOPSIGNAL SIGTERM", "ONBUILD SIGTERM"),
    ],
)
def test_dockerfile_that_breaks_a_rule_is_noticed(old: str, new: str) -> None:
    assert old in TEXT
    assert list(faults(TEXT.replace(old, new, 1), ROOT)) != []


def test_file_without_stages_is_noticed() -> None:
    assert "there are no stages" in list(faults("", ROOT))


def test_nothing_but_what_is_copied_gets_near_the_build() -> None:
    for name in (".git", "tests", "gateway.toml", "release.key", ".venv", "enclave_image/packs"):
        assert ignored(name, ROOT), name
    assert ignored("gateway/__pycache__", ROOT)
    for name in ("gateway", "gateway/cli/main.py", "enclave_image/container/fill.py"):
        assert not ignored(name, ROOT), name


def test_entry_point_is_the_script_that_is_filled_in() -> None:
    _before, stages = read(TEXT)
    (entry,) = stages[-1].of("ENTRYPOINT")
    path = re.findall(r'"([^"]+)"', entry)[0]
    fill = (ROOT / "enclave_image/container/fill.py").read_text(encoding="utf-8")
    assert path == "/usr/lib/attested/bin/attested"
    assert 'base = target / "usr/lib/attested"' in fill


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("", "@sha256"),
        ("python:3.13", "@sha256"),
        ("python@sha256:00", "@sha256"),
        ("python:3.13@sha256:" + "A" * 64, "@sha256"),
    ],
)
def test_base_image_that_is_not_named_by_digest_ends_the_build(image: str, message: str) -> None:
    code, text = by_digest(image)
    assert code == 1
    assert message in text


def test_base_image_with_another_python_ends_the_build() -> None:
    code, text = by_digest("python@sha256:" + "0" * 64)
    if sys.version_info[:2] == (3, 13):
        assert code == 0
    else:
        assert code == 1
        assert "3.13" in text


def by_digest(image: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "enclave_image/container/by_digest.py"],
        env={"PYTHON_IMAGE": image},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout
