"""The example of docs/spec/log.md is what the code makes, and passes what the document asks."""

from __future__ import annotations

import re
from pathlib import Path

from attestation.log import Held, Leaf, Resources, audit_log, read_checkpoint
from attestation.merkle.note import parse_vkey
from attestation.merkle.tlog_proof import parse_tlog_proof, verify_tlog_proof
from attestation.merkle.tree import leaf_hash
from tests.independent.c2sp import check_proof, read_log
from tests.log.documented import documented

SPEC = Path(__file__).parents[2] / "docs" / "spec" / "log.md"


def blocks() -> list[str]:
    content = SPEC.read_text(encoding="utf-8")
    return re.findall(r"^```[a-z]*\n(.*?)^```$", content, re.DOTALL | re.MULTILINE)


def test_documented_example_is_what_the_code_makes() -> None:
    vkey, entries, bundle, tile, checkpoint, proof = blocks()
    made = documented()
    assert vkey.strip() == made.log.vkey_text
    assert [bytes.fromhex(line) for line in entries.split()] == made.log.entries
    assert bytes.fromhex(bundle) == made.log.files["tile/entries/000.p/3"]
    assert bytes.fromhex(tile) == made.log.files["tile/0/000.p/3"]
    assert checkpoint.encode() == made.log.files["checkpoint"]
    assert proof == made.proof


def test_documented_example_passes_the_documented_steps() -> None:
    vkey_text, entries, bundle, tile, checkpoint, proof = blocks()
    files = {
        "checkpoint": checkpoint.encode(),
        "tile/entries/000.p/3": bytes.fromhex(bundle),
        "tile/0/000.p/3": bytes.fromhex(tile),
    }
    vkey = parse_vkey(vkey_text.strip())

    class Shown:
        def read(self, path: str, *, limit: int) -> bytes | None:
            return files[path][:limit]

    signed = read_checkpoint(checkpoint, vkey)
    report = audit_log(Resources(Shown()), signed, held=Held())
    assert report.counts == {Leaf.BOOT: 1, Leaf.RECEIPT: 1, Leaf.EPOCH: 1, Leaf.TASK: 0}
    receipt = bytes.fromhex(entries.split()[1])
    logged = verify_tlog_proof(
        parse_tlog_proof(proof), leaf_hash=leaf_hash(receipt), vkeys=[vkey], origin=vkey.name
    )
    assert (logged.index, logged.checkpoint) == (1, signed.checkpoint)
    assert read_log(files.get, vkey_text.strip())[0].size == 3
    assert check_proof(proof, receipt, vkey_text.strip()).size == 3


def test_every_type_of_entry_is_documented() -> None:
    text = SPEC.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(0x[0-9a-f]{2})` \| (\w+) \|", text, re.MULTILINE) == [
        (f"0x{leaf:02x}", leaf.name.lower()) for leaf in Leaf
    ]
