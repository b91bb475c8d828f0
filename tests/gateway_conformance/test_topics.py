"""The topics that need a running gateway: product code decides, the runner only compares."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.conformance.runner import run_topic
from attestation.errors import MalformedError
from gateway.conformance.topics import TOPICS
from tests.support.tokens import AUDIENCE, ISSUER, NOW, Signer

EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
GOOD = b'{"model":"m","messages":[{"role":"user","content":"h\xc3\xa9"}]}'


def run(topic: str, folder: Path) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    lines: list[str] = []
    code = run_topic(topic, folder, topics=TOPICS, write_line=lines.append)
    documents = [json.loads(line) for line in lines]
    return code, documents[:-1], documents[-1]


def write(folder: Path, *cases: dict[str, Any], name: str = "cases.ndjson") -> Path:
    data = "".join(json.dumps(case) + "\n" for case in cases).encode()
    (folder / name).write_bytes(data)
    entry = {"file": name, "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": [entry]}))
    return folder


def request(name: str, body: bytes, expect: str) -> dict[str, Any]:
    return {"name": name, "bytes_b64": base64.b64encode(body).decode(), "expect": expect}


def stream(name: str, body: bytes, expect: str, close: str = "clean") -> dict[str, Any]:
    return {**request(name, body, expect), "upstream_close": close}


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_every_vector_of_the_topic_is_ok(topic: str, vectors: Callable[[str], Path]) -> None:
    code, cases, summary = run(topic, vectors(topic))
    assert [case for case in cases if not case["ok"]] == []
    assert (code, summary["failed"]) == (0, 0)


def test_bodies_are_accepted_refused_and_compared_with_what_was_expected(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        request("good", GOOD, "accept"),
        request("duplicate", GOOD.replace(b'"model"', b'"model":"x","model"'), "reject"),
        request("either", GOOD, "policy"),
        request("wrongly expected to be refused", GOOD, "reject"),
        request("wrongly expected to be accepted", b"{", "accept"),
    )
    code, cases, summary = run("requests", folder)
    assert [case["got"] for case in cases] == ["accept", "reject", "accept", "accept", "reject"]
    assert [case["ok"] for case in cases] == [True, True, True, False, False]
    assert (code, summary["passed"], summary["failed"]) == (10, 3, 2)


def test_streams_end_as_their_receipts_say_and_wrong_expectations_fail(tmp_path: Path) -> None:
    crlf = (EVENT + DONE).replace(b"\n", b"\r\n")
    wide = 'data: {"c":"😀"}\n\n'.encode()
    error = b'data: {"error":{"message":"x"}}\n\n'
    folder = write(
        tmp_path,
        stream("good", EVENT + DONE, "complete"),
        stream("cr", (EVENT + DONE).replace(b"\n", b"\r"), "complete"),
        stream("crlf, a byte a write", crlf, "complete", "slow-1"),
        stream("split", wide + DONE, "complete", "split"),
        stream("split without wide text", EVENT + DONE, "complete", "split"),
        stream("reset after the end", EVENT + DONE, "complete", "rst"),
        stream("no end", EVENT, "incomplete"),
        stream("short", EVENT + DONE, "incomplete", "short"),
        stream("cut", EVENT + DONE, "incomplete", "no-last-chunk"),
        stream("tail", EVENT + DONE + EVENT, "error"),
        stream("error event", error + DONE, "complete-with-error"),
        stream("either", b"data: \x00\n\n" + DONE, "error-or-passthrough"),
        stream("wrong", EVENT, "complete"),
        stream("also wrong", EVENT + DONE, "incomplete"),
        stream("no error in it", EVENT + DONE, "complete-with-error"),
    )
    code, cases, _ = run("sse", folder)
    assert [case["ok"] for case in cases] == [True] * 12 + [False] * 3
    assert cases[6]["got"] == "upstream_error"
    assert cases[10]["got"] == "complete with error"
    assert code == 10


@pytest.mark.parametrize(
    ("topic", "case"),
    [
        ("requests", request("x", GOOD, "perhaps")),
        ("requests", {"name": "x", "expect": "accept"}),
        ("sse", stream("x", EVENT, "perhaps")),
        ("sse", stream("x", EVENT, "complete", "explosion")),
        ("sse", request("x", EVENT, "complete")),
    ],
)
def test_a_case_of_unknown_shape_makes_the_directory_malformed(
    topic: str, case: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(MalformedError):
        run(topic, write(tmp_path, case))


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("http1", "cases.ndjson"),
        ("jwt", "cases.ndjson"),
        ("requests", "cases.json"),
        ("sse", "cases.json"),
    ],
)
def test_a_file_of_another_kind_makes_the_directory_malformed(
    topic: str, name: str, tmp_path: Path
) -> None:
    with pytest.raises(MalformedError, match="shape"):
        run(topic, write(tmp_path, request("x", GOOD, "accept"), name=name))


SIGNER = Signer()
TOKENS: dict[str, Any] = {
    "jwks": {"keys": [SIGNER.jwk, Signer(alg="EdDSA", kid="k2").jwk]},
    "now": NOW,
    "expected": {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "algs": ["ES256"],
        "required": ["exp", "aud", "iss", "sub"],
    },
}


def tokens(folder: Path, *cases: tuple[str, bytes, str], **changes: Any) -> Path:
    listed = [{"name": n, "token": token.decode(), "expect": e} for n, token, e in cases]
    data = json.dumps({**TOKENS, "cases": listed, **changes}).encode()
    (folder / "cases.json").write_bytes(data)
    entry = {"file": "cases.json", "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": [entry]}))
    return folder


def test_tokens_are_judged_by_the_product_and_wrong_expectations_fail(tmp_path: Path) -> None:
    typed = SIGNER.token({"typ": "JWT"})
    folder = tokens(
        tmp_path,
        ("good", typed, "accept"),
        ("no typ, no iat", SIGNER.token({"typ": None}, iat=None), "accept"),
        ("at the last second", SIGNER.token({"typ": "JWT"}, exp=NOW + 1), "accept"),
        ("expired", SIGNER.token({"typ": "JWT"}, exp=NOW), "reject"),
        ("either", SIGNER.token({"typ": "JWT"}, iat=NOW + 1), "either"),
        ("of a key that is not asked about", Signer(alg="EdDSA", kid="k2").token(), "reject"),
        ("wrong", typed, "reject"),
        ("also wrong", SIGNER.token({"typ": "receipt+jwt"}), "accept"),
        ("no text of a header", "a.b.\u00e9".encode(), "reject"),
    )
    code, cases, summary = run("jwt", folder)
    assert [case["ok"] for case in cases] == [True] * 6 + [False] * 2 + [True]
    assert (code, summary["failed"]) == (10, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"now": "1"},
        {"expected": {"iss": ISSUER}},
        {"expected": {**TOKENS["expected"], "algs": "ES256"}},
        {"jwks": []},
        {"jwks": {"keys": [{"alg": "ES256"}]}},
        {"cases": [{"name": "x", "token": "x", "expect": "perhaps"}]},
        {"cases": [{"name": "x", "expect": "accept"}]},
    ],
)
def test_tokens_of_unknown_shape_make_the_directory_malformed(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(MalformedError):
        run("jwt", tokens(tmp_path, ("x", SIGNER.token(), "accept"), **changes))


def test_file_without_keys_or_clock_is_no_file_of_tokens(tmp_path: Path) -> None:
    data = b'{"cases":[]}'
    (tmp_path / "cases.json").write_bytes(data)
    entry = {"file": "cases.json", "sha256": hashlib.sha256(data).hexdigest()}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": [entry]}))
    with pytest.raises(MalformedError, match="shape"):
        run("jwt", tmp_path)


@pytest.mark.parametrize("topic", ["requests", "sse"])
def test_a_directory_without_a_case_is_malformed(topic: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="no case"):
        run(topic, write(tmp_path))
