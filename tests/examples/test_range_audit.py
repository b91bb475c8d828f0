"""The range audit of docs/verifying.md, typed as it stands there, in front of a real gateway."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.cli.local.policy import pin_policy
from gateway.client.session import Session
from tests.support.gateways import MODEL, Stack, standing

DOC = (Path(__file__).parents[2] / "docs" / "verifying.md").read_text("utf-8")
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with standing() as running:
        yield running


def ask(session: Session, key: str) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    with session.http_client(base_url=session.origin) as client:
        client.post(CHAT, json=body, headers={"authorization": f"Bearer {key}"})


def typed(stack: Stack, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the document's block with `attested` and the root of the simulated platform filled in."""
    if any(shutil.which(name) is None for name in ("bash", "curl", "seq")):
        pytest.skip("bash, curl or seq is not installed")
    section = DOC.partition("### Fetching a range")[2]
    (block,) = re.findall(r"```\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    shown = "--policy policy.toml"
    assert shown in block
    commands = block.replace(shown, f"{shown} --root root.pem --json > result.json")
    program = f'attested() {{ "{sys.executable}" -m gateway.cli.main "$@"; }}\nset -e\n{commands}'
    return subprocess.run(
        ["bash", "-c", program],
        cwd=folder,
        env={**os.environ, "GATEWAY": stack.gateway.url},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def prepare(stack: Stack, folder: Path) -> None:
    policy = pin_policy(stack.gateway.boot)
    wish = "require_anchored = true\n"
    assert wish in policy
    (folder / "policy.toml").write_text(policy.replace(wish, wish + "require_complete = true\n"))
    (folder / "root.pem").write_bytes(stack.gateway.anchor.certificate.public_bytes(Encoding.PEM))
    (folder / "receipts").mkdir()


def test_downloaded_epochs_and_receipts_are_one_complete_range(
    stack: Stack, tmp_path: Path
) -> None:
    prepare(stack, tmp_path)
    sessions = [stack.session() for _ in range(3)]
    for number, session in enumerate(sessions):
        # Three sessions one after the other, so that several epochs are needed.
        ask(session, stack.gateway.key)
        assert session.anchor().complete
        session.export(tmp_path / f"run{number}")
    for number in range(2):
        (tmp_path / f"run{number}" / "bundle.json").rename(tmp_path / "receipts" / f"{number}.json")
    missing = typed(stack, tmp_path)
    assert missing.returncode == 12, missing.stderr
    (tmp_path / "range.json").unlink()  # nothing is replaced without --force
    (tmp_path / "run2" / "bundle.json").rename(tmp_path / "receipts" / "2.json")
    done = typed(stack, tmp_path)
    assert done.returncode == 15, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    chain = {
        check["subject"].partition(" of ")[0]: check["status"]
        for check in result["checks"]
        if check["id"] == "EPOCH-CHAIN"
    }
    assert chain == {"epochs": "pass", "log": "pass"}
    assert len(result["facts"]["receipts"]) == 3
    assert len(list(tmp_path.glob("epoch-*.json"))) >= 3
