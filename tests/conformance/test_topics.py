"""Each topic over made-up directories: verdicts, shapes, ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.conformance.case import Judgement
from attestation.conformance.topics import TOPICS
from attestation.encoding import base64std
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note, vkey_for
from attestation.merkle.tlog_proof import TlogProof, render
from attestation.merkle.tree import consistency_path, inclusion_path, leaf_hash, root_hash
from tests.conformance.conftest import Build, b64, catalogue, judgements, lines
from tests.refusals import refusal

ACCEPT, REJECT = Judgement(got="accept", ok=True), Judgement(got="reject", ok=True)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NAME = "example.com/log"
VKEY = vkey_for(NAME, KEY.public_key().public_bytes_raw())
LEAVES = [leaf_hash(bytes([number])) for number in range(5)]
CHECKPOINT = Checkpoint(origin=NAME, size=5, root=root_hash(LEAVES))
NOTE = sign_note(CHECKPOINT.text, NAME, KEY)


def json_case(name: str, data: bytes, expect: str) -> dict[str, object]:
    return {"name": name, "bytes_b64": b64(data), "expect": expect}


def test_json_verdicts_of_the_strict_parser(build: Build) -> None:
    root = build(
        {
            "one.ndjson": lines(
                json_case("scalar", b"1", "accept"),
                json_case("nan", b"NaN", "reject"),
                json_case("huge", b"1e999", "either"),
                json_case("wrong", b"[]", "reject"),
                {"name": "deep", "repeat_b64": "Ww==", "length": 100_000, "expect": "reject"},
            ),
            "two.ndjson": lines(json_case("other file", b"{}", "accept")),
        }
    )
    assert judgements("json", root) == {
        "scalar": ACCEPT,
        "nan": REJECT,
        "huge": REJECT,
        "wrong": Judgement(got="accept", ok=False),
        "deep": REJECT,
        "other file": ACCEPT,
    }


def test_json_refusal_of_a_real_duplicate_is_a_documented_deviation(build: Build) -> None:
    root = build(
        {
            "a.ndjson": lines(
                json_case("twice", b'[{"a":1,"a":2}]', "accept"),
                json_case("once", b'{"a":1e999}', "accept"),
                json_case("expected", b'{"a":1,"a":2}', "reject"),
                # The duplicate is met first, but the rest is no JSON at all.
                json_case("broken", b'[{"a":1,"a":2}', "accept"),
            )
        }
    )
    assert judgements("json", root) == {
        "twice": Judgement(got="deviation: duplicate_member", ok=True),
        "once": Judgement(got="reject", ok=False),
        "expected": REJECT,
        "broken": Judgement(got="reject", ok=False),
    }


def test_json_deviation_does_not_excuse_accepting(build: Build) -> None:
    root = build({"a.ndjson": lines(json_case("x", b"{}", "something else"))})
    assert judgements("json", root) == {"x": Judgement(got="accept", ok=False)}


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"a.json": "[]"}, "manifest"),
        ({"a.ndjson": lines({"bytes_b64": "", "expect": "accept"})}, "manifest"),
        ({"a.ndjson": lines({"name": "x", "bytes_b64": ""})}, "manifest"),
        ({"a.ndjson": lines({"name": "x", "expect": "accept"})}, "case"),
    ],
    ids=["another ending", "no name", "no verdict", "no bytes"],
)
def test_json_file_of_unknown_shape_is_rejected(
    build: Build, files: dict[str, object], code: str
) -> None:
    assert refusal(catalogue, "json", build(files)) == code  # type: ignore[arg-type]


def test_jcs_compares_bytes(build: Build) -> None:
    root = build(
        {
            "input/a.json": b'{"b": 1E1, "a": 100000000000000000000000}',
            "output/a.json": b'{"a":1e+23,"b":10}',
            "output/b.json": b"[1]\n",
            "input/b.json": b"[1]",
            "input/c.json": b"[NaN]",
            "output/c.json": b"[NaN]",
        }
    )
    got = judgements("jcs", root)
    assert {name: judgement.ok for name, judgement in got.items()} == {
        "a": True,
        "b": False,
        "c": False,
    }
    assert got["c"].got == "reject: syntax"
    assert str(got["b"].got).startswith("3 bytes, sha256 ")


@pytest.mark.parametrize(
    "names",
    [
        ["input/a.json"],
        ["output/a.json"],
        ["input/a.json", "output/b.json"],
        ["input/a.json", "output/a.json", "readme.md"],
        ["input/a.txt", "output/a.txt"],
        ["input/x/a.json", "output/x/a.json"],
    ],
)
def test_jcs_directory_without_pairs_is_rejected(build: Build, names: list[str]) -> None:
    assert refusal(catalogue, "jcs", build(dict.fromkeys(names, b"1"))) == "manifest"


def inclusion(**changes: object) -> dict[str, object]:
    path = [base64std.encode(node) for node in inclusion_path(1, LEAVES)]
    leaf, root = (base64std.encode(value) for value in (LEAVES[1], CHECKPOINT.root))
    members: dict[str, object] = {"leafIdx": 1, "treeSize": 5, "leafHash": leaf, "root": root}
    return {"name": "i", "wantErr": False, "proof": path} | members | changes


def consistency(**changes: object) -> dict[str, object]:
    path = [base64std.encode(node) for node in consistency_path(3, LEAVES)]
    roots = [base64std.encode(root_hash(LEAVES[:size])) for size in (3, 5)]
    members = {"size1": 3, "size2": 5, "root1": roots[0], "root2": roots[1], "proof": path}
    return {"name": "c", "wantErr": False} | members | changes


def test_merkle_verdicts_of_both_kinds_of_proof(build: Build) -> None:
    root = build(
        {
            "inclusion.json": [
                inclusion(),
                inclusion(name="index", leafIdx=2, wantErr=True),
                inclusion(name="negative", leafIdx=-1, wantErr=True),
                inclusion(name="null proof", proof=None, wantErr=True),
                inclusion(name="no root", root=None, wantErr=True),
                inclusion(name="short", leafHash="AAAA", wantErr=True),
                inclusion(name="wrong", wantErr=True),
            ],
            "mixed.json": [consistency(), consistency(name="size", size1=4, wantErr=True)],
        }
    )
    got = judgements("merkle", root)
    assert got.pop("inclusion.json#wrong") == Judgement(got="accept", ok=False)
    assert got.pop("inclusion.json#i") == got.pop("mixed.json#c") == ACCEPT
    assert set(got) == {
        "inclusion.json#index",
        "inclusion.json#negative",
        "inclusion.json#null proof",
        "inclusion.json#no root",
        "inclusion.json#short",
        "mixed.json#size",
    }
    assert set(map(str, got.values())) == {str(REJECT)}


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (inclusion(leafIdx="1"), "case"),
        (inclusion(leafIdx=True), "case"),
        (inclusion(proof="x"), "case"),
        (inclusion(proof=["!"]), "case"),
        (inclusion(proof=["é"]), "case"),
        (inclusion(root=5), "case"),
        (consistency(size2=1.5), "case"),
        (inclusion(wantErr=0), "manifest"),
        (inclusion(name=None), "manifest"),
        ({"name": "x", "wantErr": True}, "manifest"),
        ({"name": "x", "wantErr": True, "size1": 1, "leafIdx": 0, "proof": []}, "manifest"),
    ],
)
def test_merkle_case_of_unknown_shape_is_rejected(
    build: Build, item: dict[str, object], code: str
) -> None:
    assert refusal(catalogue, "merkle", build({"a.json": [item]})) == code


def test_merkle_file_of_another_ending_is_rejected(build: Build) -> None:
    assert refusal(catalogue, "merkle", build({"a.txt": [inclusion()]})) == "manifest"


def proof_case(name: str, index: int = 2, **changes: object) -> dict[str, object]:
    made = TlogProof(extra=None, index=index, path=tuple(inclusion_path(2, LEAVES)), note=NOTE)
    members = {"id": name, "leaf_b64": b64(b"\x02"), "proof": render(made), "valid": True}
    return members | changes


LOG = {"vkey": VKEY, "origin": NAME}


def test_tlog_proof_verdicts(build: Build) -> None:
    cases = [
        proof_case("good"),
        proof_case("leaf", leaf_b64=b64(b"\x03"), valid=False),
        proof_case("index", index=3, valid=False),
        proof_case("text", proof="", valid=False),
        proof_case("wrong", valid=False),
    ]
    log = {"vkey": VKEY, "origin": NAME, "cases": cases}
    stranger = {"vkey": VKEY, "origin": "example.com/other", "cases": [proof_case("other")]}
    no_key = {"vkey": "x", "origin": NAME, "cases": [proof_case("no key", valid=False)]}
    root = build({"a.json": log, "b.json": stranger, "c.json": no_key})
    assert judgements("tlog-proof", root) == {
        "good": ACCEPT,
        "leaf": REJECT,
        "index": REJECT,
        "text": REJECT,
        "wrong": Judgement(got="accept", ok=False),
        "other": Judgement(got="reject", ok=False),
        "no key": REJECT,
    }


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"a.txt": "x"}, "manifest"),
        ({"a.json": []}, "manifest"),
        ({"a.json": {"origin": NAME, "cases": []}}, "manifest"),
        ({"a.json": {"vkey": VKEY, "cases": []}}, "manifest"),
        ({"a.json": {"vkey": VKEY, "origin": NAME}}, "manifest"),
        (
            {"a.json": {"vkey": VKEY, "origin": NAME, "cases": [proof_case("x", valid=1)]}},
            "manifest",
        ),
        (
            {"a.json": {"vkey": VKEY, "origin": NAME, "cases": [proof_case("x", leaf_b64="!")]}},
            "case",
        ),
    ],
)
def test_tlog_proof_file_of_unknown_shape_is_rejected(
    build: Build, files: dict[str, object], code: str
) -> None:
    assert refusal(catalogue, "tlog-proof", build(files)) == code  # type: ignore[arg-type]


def note_case(name: str, **changes: object) -> dict[str, object]:
    return {"id": name, "vkeys": [VKEY], "note": NOTE, "valid": True} | changes


def test_c2sp_note_verdicts_and_parsed_files(build: Build) -> None:
    ecdsa = f"{NAME}+00000000+" + base64std.encode(b"\x02" + bytes(90))
    root = build(
        {
            "notes.json": [
                note_case("good"),
                note_case("edited", note=NOTE.replace("5", "6", 1), valid=False),
                note_case("no keys", vkeys=[], valid=False),
                note_case("bad key", vkeys=["x"], valid=False),
                note_case("wrong", valid=False),
            ],
            "example.json": {"note": NOTE, "meaning": "…"},
            "broken.json": {"note": "x"},
            "logs.yaml": f'Logs:\n  - PublicKey: {VKEY}\n    PublicKey: "{ecdsa}"\n',
            "more.yml": f"- PublicKey: {VKEY}x\n- PublicKey: {VKEY.replace(NAME, 'other')}\n",
        }
    )
    assert judgements("c2sp-note", root) == {
        "good": ACCEPT,
        "edited": REJECT,
        "no keys": REJECT,
        "bad key": REJECT,
        "wrong": Judgement(got="accept", ok=False),
        "example.json#note": ACCEPT,
        "broken.json#note": Judgement(got="reject", ok=False),
        "logs.yaml#0": ACCEPT,
        "logs.yaml#1": ACCEPT,
        "more.yml#0": Judgement(got="reject", ok=False),
        "more.yml#1": Judgement(got="reject", ok=False),
    }


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"a.txt": "x"}, "manifest"),
        ({"a.yaml": "Logs: []\n"}, "manifest"),
        ({"a.json": {"text": "x"}}, "manifest"),
        ({"a.json": "1"}, "manifest"),
        ({"a.json": [1]}, "manifest"),
        ({"a.json": [note_case("x", valid=None)]}, "manifest"),
        ({"a.json": [note_case("x", vkeys=VKEY)]}, "case"),
        ({"a.json": [note_case("x", vkeys=[1])]}, "case"),
        ({"a.json": [note_case("x", note=None)]}, "manifest"),
    ],
)
def test_c2sp_note_file_of_unknown_shape_is_rejected(
    build: Build, files: dict[str, object], code: str
) -> None:
    assert refusal(catalogue, "c2sp-note", build(files)) == code  # type: ignore[arg-type]


def test_verdict_does_not_depend_on_names_or_expectations(build: Build) -> None:
    data = [b"{}", b"NaN", b"1e999", b'{"a":1,"a":2}']

    def verdicts(names: list[str], expect: str) -> list[object]:
        made = [json_case(n, d, expect) for n, d in zip(names, data, strict=True)]
        return [case.run() for case in catalogue("json", build({"a.ndjson": lines(*made)}))]

    first = verdicts(["y_1", "y_2", "y_3", "y_4"], "accept")
    assert first == verdicts(["n_1", "n_2", "n_3", "n_4"], "reject") == ["accept"] + ["reject"] * 3


OFFLINE = [topic for topic in TOPICS if topic != "tdx"]


@pytest.mark.parametrize("topic", OFFLINE)
def test_every_published_case_is_ok(vectors: Callable[[str], Path], topic: str) -> None:
    got = judgements(topic, vectors(topic))
    assert got
    assert {name: judgement.got for name, judgement in got.items() if not judgement.ok} == {}


@pytest.mark.parametrize("topic", ["c2sp-note", "merkle", "tlog-proof"])
def test_every_published_case_with_its_verdict_turned_round_is_not_ok(
    vectors: Callable[[str], Path], build: Build, topic: str
) -> None:
    def turned(value: object) -> object:
        if isinstance(value, list):
            return [turned(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        changed = {k: turned(v) for k, v in value.items()}
        flags = {k: not v for k, v in value.items() if k in {"valid", "wantErr"}}
        return changed | flags

    folder = vectors(topic)
    names = [p.name for p in folder.glob("*.json") if p.name != "manifest.json"]
    files = {name: turned(json.loads((folder / name).read_bytes())) for name in names}
    got = judgements(topic, build(files))  # type: ignore[arg-type]
    assert {name for name, judgement in got.items() if judgement.ok} <= {
        "cosignature_syntax.json#note"
    }


def test_topics_are_known_by_the_names_of_the_specification() -> None:
    assert sorted(TOPICS) == [
        "c2sp-note",
        "jcs",
        "json",
        "merkle",
        "signatures",
        "tdx",
        "tlog-proof",
        "tlog-tiles",
    ]
    assert all(callable(import_module(path).cases) for path in TOPICS.values())
