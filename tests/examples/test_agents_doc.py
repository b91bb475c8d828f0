"""What docs/agents.md shows is run here, with a gateway of the test's own filled in."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.cli import verify
from attestation.result import Verdict
from gateway.cli import call, demo_engine
from gateway.cli.local.policy import pin_policy
from tests.support.gateways import MODEL, Stack, standing

DOC = (Path(__file__).parents[2] / "docs" / "agents.md").read_text("utf-8")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with standing() as running:
        yield running


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOC, re.DOTALL)


def test_the_python_blocks_run_and_every_call_has_its_receipt(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.toml").write_text(pin_policy(stack.gateway.boot))
    root = stack.gateway.anchor.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "root.pem").write_bytes(root)
    monkeypatch.chdir(tmp_path)
    sdk, older = blocks("python")
    filled = {
        "https://gateway:8443": stack.gateway.url,
        'load_trust(Path("policy.toml"))': (
            'load_trust(Path("policy.toml"), simulated_root=Path("root.pem"))'
        ),
        '"my-model"': f'"{MODEL}"',
        "[…]": '[{"role": "user", "content": "hello"}]',
    }
    for shown, real in filled.items():
        assert shown in sdk
        sdk = sdk.replace(shown, real)
    names: dict[str, Any] = {"key": stack.gateway.key}
    exec(compile(sdk, "docs/agents.md", "exec"), names)  # noqa: S102 - our own document
    exec(compile(older, "docs/agents.md", "exec"), names)  # noqa: S102
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {stack.gateway.key}"}
    url = f"{names['session'].base_url}/chat/completions"
    assert names["http_client"].post(url, json=body, headers=headers).status_code == 200
    names["http_client"].close()
    names["client"].close()
    first, second = names["session"].calls
    assert (first.verdict, first.anchored) == (Verdict.SIMULATED, True)
    assert (second.verdict, second.anchored) == (Verdict.INCOMPLETE, False)
    assert names["session"].anchor().complete
    assert [one.verdict for one in names["session"].calls] == [Verdict.SIMULATED] * 2
    assert (tmp_path / "run1" / "bundle.json").exists()


def commands() -> Iterator[str]:
    for block in blocks(""):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("attested "):
                yield line
    yield from re.findall(r"`(attested demo-engine [^`]*)`", DOC)


@pytest.mark.parametrize("command", list(commands()))
def test_the_commands_shown_are_commands_there_are(command: str) -> None:
    modules: dict[str, Any] = {"call": call, "verify": verify, "demo-engine": demo_engine}
    _, name, *arguments = shlex.split(command.partition(" > ")[0])
    parser = argparse.ArgumentParser()
    modules[name].configure(parser)
    parser.parse_args(arguments)


def test_the_document_shows_commands_at_all() -> None:
    assert len(list(commands())) >= 3
