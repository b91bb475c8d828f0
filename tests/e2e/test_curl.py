"""The gateway from a shell: curl, and the project's own commands behind a pipe."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Engines, Serve
from tests.support.serving import Served, attested, environment

CURL = shutil.which("curl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CURL is None, reason="curl is not installed"),
]
QUESTION = '{"model":"stand-in-1","messages":[{"role":"user","content":"from a shell"}]}'
STREAMED = QUESTION[:-1] + ',"stream":true}'
CHAT = "/v1/chat/completions"
PINNED_KEY_DIFFERS = 90


def curl(served: Served, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[bytes]:
    assert CURL is not None
    done = subprocess.run(
        [CURL, "--silent", "--show-error", "--max-time", "60", *arguments],
        cwd=served.folder,
        env=environment(served.folder),
        capture_output=True,
        check=False,
    )
    assert not ok or done.returncode == 0, done.stderr
    return done


def ask(served: Served, key: str, body: str, *arguments: str, path: str = CHAT) -> bytes:
    """POST with curl; the head of the answer is left in `head.txt`."""
    headers = (f"authorization: Bearer {key}", "content-type: application/json")
    fields = [part for header in headers for part in ("--header", header)]
    request = ["--data-binary", body, "--dump-header", "head.txt", served.url + path]
    return curl(served, *fields, *arguments, *request).stdout


def headers(served: Served) -> dict[str, str]:
    lines = (served.folder / "head.txt").read_text().splitlines()[1:]
    return dict(line.lower().split(": ", 1) for line in lines if line)


def audit(served: Served, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """`attested verify` with this boot's policy and root."""
    (served.folder / "policy.toml").write_bytes(served.policy())
    root = served.boot / "root.pem"
    grounds = ("--policy", "policy.toml", "--root", str(root))
    done = attested(served.folder, "verify", *arguments, *grounds, stdin=stdin)
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def test_plain_answer_and_its_receipt_in_headers(serve: Serve, standin: Engines) -> None:
    served = serve(standin())
    key = served.key
    answer = ask(served, key, QUESTION, "--header", "x-receipt: inline")
    shown = headers(served)
    assert json.loads(answer)["id"] == f"chatcmpl-{shown['x-receipt-id']}"
    assert shown["x-request-id"] == shown["x-receipt-id"]
    assert shown["x-keyset-digest"] == served.lines["keyset digest"]
    assert {"x-receipt", "x-receipt-openings"} <= shown.keys()
    assert {"server", "date"}.isdisjoint(shown)


def test_receipt_bundle_goes_through_a_pipe_into_the_verifier(
    serve: Serve, standin: Engines
) -> None:
    served = serve(standin())
    key = served.key
    answer = ask(served, key, QUESTION)
    jti = headers(served)["x-receipt-id"]
    (served.folder / "answer.json").write_bytes(answer)
    (served.folder / "request.json").write_text(QUESTION)
    bearer = ("--header", f"authorization: Bearer {key}")
    bundle = curl(served, *bearer, f"{served.url}/v1/receipts/{jti}?format=bundle").stdout
    bodies = ("--request", "request.json", "--response", "answer.json")
    code, text = audit(served, "-", *bodies, stdin=bundle)
    assert code == 15, text
    (served.folder / "answer.json").write_bytes(answer.replace(b"stand-in-1", b"stand-in-2", 1))
    code, text = audit(served, "-", *bodies, stdin=bundle)
    assert code == 10, text
    assert "RESPONSE-BODY" in text


def test_stream_as_curl_saves_it_is_verified_block_included(serve: Serve, standin: Engines) -> None:
    served = serve(standin())
    key = served.key
    nonce = "0123456789abcdef"
    asked = ("--no-buffer", "--header", "x-receipt: inline")
    stream = ask(served, key, STREAMED, *asked, "--header", f"x-receipt-nonce: {nonce}")
    assert stream.endswith(b"\n\ndata: [DONE]\n\n")
    (served.folder / "answer.sse").write_bytes(stream)
    (served.folder / "request.json").write_text(STREAMED)
    jti = headers(served)["x-receipt-id"]
    bundle = curl(
        served,
        *("--header", f"x-api-key: {key}", "--output", "bundle.json"),
        f"{served.url}/v1/receipts/chatcmpl-{jti}?format=bundle",
    )
    assert bundle.returncode == 0
    bodies = ("--request", "request.json", "--response", "answer.sse", "--nonce", nonce)
    code, text = audit(served, "bundle.json", *bodies)
    assert code == 15, text
    code, text = audit(served, "bundle.json", *bodies[:-1], nonce[::-1])
    assert code == 10, text


def test_errors_have_their_receipt_id_and_the_routes_own_form(
    serve: Serve, standin: Engines
) -> None:
    served = serve(standin())
    key = served.key
    refused = json.loads(ask(served, key, '{"model":"stand-in-1","priority":1}'))
    assert refused["error"]["code"] == "refused_priority"
    assert re.fullmatch("[0-9a-f]{32}", headers(served)["x-receipt-id"])
    anthropic = json.loads(ask(served, key, "{", path="/v1/messages"))
    assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "invalid_request_error")
    stranger = json.loads(ask(served, "ag-unknown", QUESTION))
    assert stranger["error"]["code"] == "invalid_api_key"
    assert "x-receipt-id" not in headers(served)


def test_curl_pins_the_attested_key_and_refuses_another(serve: Serve, standin: Engines) -> None:
    served = serve(standin(), tls={"mode": "self-signed"})
    evidence = curl(served, "--insecure", f"{served.url}/v1/attestation").stdout
    (listed,) = json.loads(evidence)["boot"]["keyset"]["tls"]
    pin = base64.b64encode(bytes.fromhex(listed["spki_sha256"])).decode()
    pinned = ("--insecure", "--pinnedpubkey", f"sha256//{pin}")
    assert json.loads(curl(served, *pinned, f"{served.url}/healthz").stdout) == {"status": "ok"}
    other = base64.b64encode(bytes(32)).decode()
    wrong = ("--insecure", "--pinnedpubkey", f"sha256//{other}")
    assert curl(served, *wrong, f"{served.url}/healthz", ok=False).returncode == PINNED_KEY_DIFFERS


def test_curl_over_a_unix_socket(serve: Serve, standin: Engines, tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    served = serve(standin(uds=str(tmp_path / "engine.sock")), listen={"uds": str(path)})
    key = served.key
    question = ("--data-binary", QUESTION, "--header", "content-type: application/json")
    done = curl(
        served,
        *("--unix-socket", str(path), "--header", f"x-api-key: {key}", *question),
        f"http://localhost{CHAT}",
    )
    assert json.loads(done.stdout)["object"] == "chat.completion"


def test_call_and_verify_from_a_shell_alone(serve: Serve, standin: Engines) -> None:
    served = serve(standin(), tls={"mode": "self-signed"})
    (served.folder / "key").write_text(served.key)
    (served.folder / "policy.toml").write_bytes(served.policy())
    root = served.boot / "root.pem"
    grounds = ("--policy", "policy.toml", "--root", str(root))
    asked = ("--key-file", "key", "--prompt", "from a shell", "--stream", "--out", "run")
    called = attested(served.folder, "call", served.url, *grounds, *asked)
    assert called.returncode == 15, called.stderr
    assert called.stdout.endswith(b"data: [DONE]\n\n")
    bodies = ("--contents", "run/bodies")
    done = attested(served.folder, "verify", "run/bundle.json", *grounds, *bodies)
    assert done.returncode == 15, done.stdout
    unrooted = attested(served.folder, "call", served.url, "--policy", "policy.toml", *asked[:-2])
    assert unrooted.returncode == 10, unrooted.stderr
