"""The examples run as they are documented, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.policy import parse_policy
from gateway.cli.local.policy import pin_policy
from tests.support.gateways import MODEL, Stack, standing

EXAMPLES = Path(__file__).parents[2] / "examples"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run an example in an empty folder."""

    def start(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(EXAMPLES / name), *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    return start


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with standing() as running:
        yield running


def grounds(stack: Stack, folder: Path) -> list[str]:
    (folder / "policy.toml").write_text(pin_policy(stack.gateway.boot))
    (folder / "root.pem").write_bytes(stack.gateway.anchor.certificate.public_bytes(Encoding.PEM))
    (folder / "key").write_text(stack.gateway.key)
    return [
        "--base-url", stack.gateway.url, "--policy", "policy.toml", "--root", "root.pem",
        "--key-file", "key", "--model", MODEL,
    ]  # fmt: skip


def test_parallel_agents_prints_a_graph_that_the_receipts_prove(run: Run) -> None:
    done = run("parallel_agents.py", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["call"] for row in rows] == [0, 1, 2, 3]
    assert {row["verdict"] for row in rows} == {"SIMULATED"}
    assert all(row["anchored"] for row in rows)
    assert len({row["task"] for row in rows}) == 1
    assert rows[3]["agent"] == "review"
    assert rows[3]["parents"] == ["documentation", "implementation", "tests"]
    assert [row["follows"] for row in rows] == [None, *(row["agent"] for row in rows[:3])]


def test_parallel_agents_work_in_front_of_any_gateway_and_leave_a_bundle(
    run: Run, stack: Stack, tmp_path: Path
) -> None:
    done = run("parallel_agents.py", *grounds(stack, tmp_path), "--out", "left")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("verified: SIMULATED, anchored") == 4
    assert done.stdout.count("follows from") == 3
    verified = subprocess.run(
        [sys.executable, "-m", "attestation.cli.main", "verify", "left/bundle.json",
         "--policy", "policy.toml", "--root", "root.pem", "--contents", "left/bodies"],
        cwd=tmp_path, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert verified.returncode == 15


def test_openai_chat_says_the_same_plain_and_streaming(run: Run) -> None:
    done = run("openai_chat.py")
    assert done.returncode == 0, done.stderr
    plain, streamed = done.stdout.splitlines()
    assert plain == streamed
    assert done.stderr.count(": SIMULATED, anchored") == 2


@pytest.mark.parametrize("name", ["openai_chat.py", "parallel_agents.py"])
def test_an_example_stops_before_a_gateway_it_must_not_accept(
    run: Run, stack: Stack, tmp_path: Path, name: str
) -> None:
    arguments = grounds(stack, tmp_path)
    at = arguments.index("--root")
    done = run(name, *arguments[:at], *arguments[at + 2 :])
    assert done.returncode == 10
    assert "QUOTE-GENUINE" in done.stderr


@pytest.mark.parametrize("name", ["openai_chat.py", "parallel_agents.py"])
def test_an_example_asks_for_the_policy_it_needs(run: Run, name: str) -> None:
    done = run(name, "--base-url", "https://gateway.example")
    assert done.returncode == 2
    assert "--policy" in done.stderr


@pytest.mark.parametrize("name", ["openai_chat.py", "parallel_agents.py"])
@pytest.mark.parametrize(
    ("file", "content", "code", "said"),
    [
        ("policy.toml", None, 2, "cannot read policy.toml"),
        ("key", "\n", 2, "--key-file"),
        ("key", "ag-wrong", 14, "answered 401"),
    ],
)
def test_an_example_says_what_is_wrong_with_what_it_was_given(
    run: Run, stack: Stack, tmp_path: Path, name: str, file: str, content: str | None, code: int,
    said: str,
) -> None:  # fmt: skip
    arguments = grounds(stack, tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    done = run(name, *arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


POLICIES = sorted(set(EXAMPLES.glob("policy*.toml")) - {EXAMPLES / "policy-cases.toml"})


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_sample_policies_parse(path: Path) -> None:
    assert parse_policy(path.read_bytes()).reference_values
