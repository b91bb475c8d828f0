"""`attested model verify`: every difference from a lock is named."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.cli.main import main
from attestation.cli.model_folder import (
    BLOCK_BYTES,
)
from attestation.encoding.digest import Digest
from attestation.statement.model_lock import (
    LockedEngine,
    LockedFile,
    ModelLock,
    Role,
)
from tests.cli.models import made, refused, special, verified
from tests.support.bundles import NOW, Gateway


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
    assert "not that model: 1 problem (" in told


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
