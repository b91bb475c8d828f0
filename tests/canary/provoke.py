"""Every way in which a request can go wrong at a running gateway, each with the token in it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from attestation.encoding.base64url import decode
from attestation.receipt.commitments import Openings
from gateway.edge import routes
from gateway.engine.scripted import JSON, Close, Script
from tests.canary import refused
from tests.canary.driving import Run
from tests.canary.engine import DRIP
from tests.canary.wire import Reply, read_all, read_some
from tests.support.serving import wait_until


def leaving_callers(run: Run) -> None:
    with run.door.tls() as sock:
        sock.sendall(run.request(key="slow")[:-9])
    for scenario in ("stream-hang", "mute", "hang"):
        with run.door.tls() as sock:
            asked = len(run.engine.requests)
            sock.sendall(run.request(run.body(user=scenario), key="slow"))
            wait_until(lambda asked=asked: len(run.engine.requests) > asked)  # type: ignore[misc]


# -- the engine ----------------------------------------------------------------------------

SCENARIOS: dict[str, str | None] = {
    "plain": None,
    "plain-typed": None,
    "plain-odd-type": None,
    "plain-headers": None,
    "no-json": None,
    "refusal": None,
    "overload": None,
    "redirect": None,
    "stream": None,
    "stream-error": None,
    "stream-tail": None,
    "stream-cut": "upstream_incomplete",
    "stream-end": "upstream_incomplete",
    "stream-reset": None,
    "stream-forged": "upstream_incomplete",
    "stream-huge": None,
    "stream-hang": "upstream_timeout_idle",
    "stream-odd": None,
    "huge": "response_too_large",
    "short": "upstream_incomplete",
    "hang": "upstream_timeout_idle",
    "mute": "upstream_timeout_first_byte",
    "drop": "upstream_reset",
    "no-http": "upstream_malformed",
    "odd-head": "upstream_malformed",
    "half-head": "upstream_reset",
    "coded": "upstream_malformed",
    DRIP: "upstream_timeout_total",
    "fault-plain": "internal_error",
    "fault-stream": "internal_error",
}


def engines(run: Run) -> None:
    """Every scenario, with the receipt inline and without; the slow ones side by side."""

    def play(case: tuple[str, bool]) -> None:
        scenario, inline = case
        reply = run.ask(run.body(user=scenario), key="engine", inline=inline)
        wanted = SCENARIOS[scenario]
        assert wanted is None or wanted in reply.codes, f"{scenario}: {reply.codes}"

    cases = [(scenario, inline) for scenario in SCENARIOS for inline in (True, False)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(play, cases))
    for path in sorted(routes.PATHS):
        run.ask(run.body(user="stream"), path=path, key="engine")


def concurrency(run: Run) -> None:
    with run.door.tls() as sock:
        sock.sendall(run.request(run.body(user="stream-hang"), key="one-slot"))
        read_some(sock, b"\r\n\r\n")
        run.ask(key="one-slot", expect="concurrency")


def too_many_refusals(run: Run) -> None:
    bad = b'{"%b":' % run.canary.hidden.encode()
    one = run.request(bad, key="flood").replace(b"connection: close\r\n", b"")
    # Several at once on one connection: faster than the budget refills, if not by much.
    for _ in range(200):
        with run.door.tls() as sock:
            sock.sendall(one * 9 + run.request(bad, key="flood"))
            reply = run.note(Reply(data=read_all(sock)))
        if "too_many_refusals" in reply.codes:
            return
    raise AssertionError("the budget for refusals was never spent")


# -- the gateway's own failures ------------------------------------------------------------


def failures_inside(run: Run) -> None:
    fault = run.body(priority=f"{run.canary.hidden} fault")
    run.ask(fault, key="inside", expect="internal_error")
    run.ask(fault, key="inside", path=routes.MESSAGES, expect="internal_error")
    run.ask(task="fault-announce", key="inside", expect="notary_unavailable")
    run.ask(task="fault-seal", key="inside", expect="receipt_unavailable")
    cut = run.ask(run.body(user="stream"), task="fault-seal", key="inside")
    assert b"[DONE]" not in cut.data


# -- control routes ------------------------------------------------------------------------


def control(run: Run) -> None:
    token = run.canary.hidden
    get: dict[str, Any] = {"method": "GET", "drop": ("content-type", "content-length"), "body": b""}
    for path, code in {
        f"/v1/receipts/{token}": "not_found",
        f"/v1/receipts/{token}?wait={token}": "parameter",
        f"/v1/receipts/{token}?format={token}": "parameter",
        f"/v1/attestation?nonce={token}": "parameter",
        f"/v1/attestation?format={token}": "parameter",
        f"/v1/attestation?format=bundle&nonce={'ab' * 32}": "parameter",
        f"/v1/attestation?nonce={'ff' * 32}": "quote_failed",
        f"/v1/attestation?nonce={'ee' * 32}": "notary_unavailable",
        f"/v1/receipts/{token}-fault-find": "internal",
        f"/v1/log/{token}": "not_found",
    }.items():
        run.ask(path=path, expect=code, **get)
    assert run.ask(path=f"/v1/attestation?nonce={'ab' * 32}&{token}={token}", **get).status == 200
    run.ask(path="/v1/models", key=token, expect="invalid_api_key", **get)
    run.ask(path=f"/v1/receipts/{run.ids[0]}", key=token, expect="invalid_api_key", **get)
    run.ask(path=f"/v1/receipts/{run.ids[0]}", key="stranger", expect="not_found", **get)
    for path in ("/v1/models", "/v1/attestation", "/healthz", "/readyz", f"/v1/receipts/{token}"):
        run.ask(path=path, expect="method_not_allowed")
    retrieved = run.ask(path=f"/v1/receipts/{run.ids[0]}", key="rules", **get)
    assert retrieved.status == 200
    openings = json.loads(retrieved.data.partition(b"\r\n\r\n")[2])["openings"]
    texts = [openings[name] for name in ("req", "res", "eng") if name in openings]
    run.openings.append(Openings(keys={str(n): decode(t, what="key") for n, t in enumerate(texts)}))


def model_lists(run: Run) -> None:
    token = run.canary.hidden
    get: dict[str, Any] = {"method": "GET", "drop": ("content-type", "content-length"), "body": b""}
    good = run.engine.models
    card = b'{"data":[{"id":"%b"}],"%b":1}' % (token.encode(), token.encode())
    for script, code in (
        (Script(writes=(card,), content_type=JSON), None),
        (Script(writes=(card,), content_type=JSON, status=500), "engine_status"),
        (Script(writes=(token.encode(),), content_type=JSON), "engine_answer"),
        (Script(writes=(b'{"data":"%b"}' % token.encode(),), content_type=JSON), "engine_answer"),
        (Script(writes=(token.encode() + b"\r\n\r\n",), close=Close.RAW), "malformed"),
    ):
        run.engine.models = script
        run.ask(path="/v1/models", expect=code, **get)
    run.engine.models = good
    run.ask(path="/v1/models", key="one-model", **get)


def admin(run: Run) -> None:
    token = run.canary.hidden
    chain = {"content-type": "application/pem-certificate-chain"}
    with httpx2.Client(base_url=run.served.admin, trust_env=False) as client:
        answers = {
            "host": client.get("/metrics", headers={"host": f"{token}.example"}),
            "not_found": client.get(f"/{token}?{token}"),
            "content_type": client.post("/tls/certificate", content=token),
            "tls_chain": client.post("/tls/certificate", content=token, headers=chain),
            "size": client.post("/tls/certificate", content=token * 9000, headers=chain),
        }
    for code, answer in answers.items():
        run.note(Reply(data=b"HTTP/1.1 %d \r\n\r\n%b" % (answer.status_code, answer.content)), code)


# -- an engine that is gone ----------------------------------------------------------------


def unreachable_engine(run: Run, close_engine: Callable[[], int]) -> None:
    """First nothing listens on the engine's port, then something that accepts nobody."""
    port = close_engine()
    drop = ("content-type", "content-length")
    run.ask(key="gone", expect="upstream_connect")
    run.ask(path="/v1/models", method="GET", body=b"", drop=drop, key="gone", expect="connect")
    with full_listener(port):
        run.ask(key="gone", expect="upstream_timeout_connect")
        # Each process finds out by itself that it is better not to try.
        while "engines_unavailable" not in run.ask(key="gone").codes:
            pass
        run.ask(path="/v1/models", method="GET", body=b"", drop=drop, key="gone")


@contextmanager
def full_listener(port: int) -> Iterator[None]:
    """A listening socket whose queue is full: the kernel answers nobody any more."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            time.sleep(0.2)
            yield
        finally:
            for sock in waiting:
                sock.close()


def stopping(run: Run, stop: Callable[[], None]) -> None:
    """The last thing: a stream that is still open when the gateway is told to stop."""
    wait_until(lambda: run.ask(key="gone").status == 200)
    with run.door.tls() as sock:
        sock.sendall(run.request(run.body(user="stream-hang"), key="gone"))
        head = read_some(sock, b"\r\n\r\n")
        stop()
        run.note(Reply(data=head + read_all(sock)))


ALL: tuple[Callable[[Run], None], ...] = (
    refused.admission_rules,
    refused.admission_members,
    refused.admission_media,
    refused.models,
    refused.json_bodies,
    refused.heads,
    refused.strangers,
    refused.protocol,
    refused.garbage_for_tls,
    refused.large_bodies,
    refused.slow_body,
    refused.slow_head,
    leaving_callers,
    engines,
    concurrency,
    too_many_refusals,
    failures_inside,
    control,
    model_lists,
    admin,
)


def left_behind(run: Run, folder: Path) -> list[str]:
    """Files that the process has open and that are in no place we look at."""
    known = (str(folder), "/dev/", "/proc/", "socket:", "pipe:", "anon_inode:", "/memfd:")
    links = Path(f"/proc/{run.served.process.pid}/fd").iterdir()
    targets = {str(link.readlink()) for link in links if link.is_symlink()}
    return sorted(target for target in targets if not target.startswith(known))
