"""Every way in which a request can go wrong at a running gateway, each with the token in it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from attestation.encoding.base64url import decode
from attestation.receipt.block import find_block
from attestation.receipt.commitments import Openings, parse_openings_header
from gateway.edge import routes, rules
from gateway.engine.scripted import JSON, Close, Script
from tests.canary.engine import DRIP, CanaryEngine
from tests.canary.search import Canary
from tests.canary.wire import Door, Reply, read_all, read_some
from tests.support.serving import Served, wait_until

BODY_BYTES, RESPONSE_BYTES, FRAME_BYTES, HEADER_BYTES = 20_000, 8_000, 4_096, 4_096
CHAT = routes.CHAT
TRACE = "00-{}-00f067aa0ba902b7-01"


@dataclass(slots=True, kw_only=True)
class Run:
    """One gateway being driven; what came back is collected for the search."""

    served: Served
    engine: CanaryEngine
    canary: Canary
    door: Door
    keys: dict[str, str]
    codes: set[str] = field(default_factory=set)
    bodies: set[bytes] = field(default_factory=set)
    openings: list[Openings] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def document(self, **members: Any) -> dict[str, Any]:
        """A chat request full of the token that nothing is wrong with."""
        token = self.canary.hidden
        return {
            "model": self.canary.recorded,
            "messages": [
                {"role": "system", "content": f"be {token}"},
                {"role": "user", "content": token, "name": token},
            ],
            "stop": [token, f"{token} 2"],
            "tools": [{"type": "function", "function": {"name": token, "description": token}}],
            "metadata": {token: token},
            "logit_bias": {token: 1},
            "response_format": {"type": "json_schema", "json_schema": {"name": token}},
            token: token,
            **members,
        }

    def body(self, **members: Any) -> bytes:
        return json.dumps(self.document(**members)).encode()

    def request(
        self,
        body: bytes | None = None,
        *,
        path: str = CHAT,
        key: str = "main",
        method: str = "POST",
        headers: tuple[str, ...] = (),
        drop: tuple[str, ...] = (),
        inline: bool = True,
        task: str | None = None,
    ) -> bytes:
        """The bytes of one request after which the gateway closes."""
        body = self.body() if body is None else body
        self.bodies.add(body)
        token = self.canary.hidden
        lines = {
            "host": f"host: {token}.example:1",
            "authorization": f"authorization: Bearer {self.keys.get(key, key)}",
            "content-type": "content-type: application/json",
            "content-length": f"content-length: {len(body)}",
            "connection": "connection: close",
            "user-agent": f"user-agent: {token}/1",
            "cookie": f"cookie: a={token}",
            "x-task-id": f"x-task-id: {task or self.canary.recorded}",
            "x-receipt-nonce": f"x-receipt-nonce: {self.canary.recorded}",
            "x-receipt": "x-receipt: inline",
        }
        left_out = {*drop, *(() if inline else ("x-receipt",))}
        kept = [line for name, line in lines.items() if name not in left_out]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, *headers, "", ""])
        return head.encode("latin-1") + body

    def ask(self, body: bytes | None = None, *, expect: str | None = None, **how: Any) -> Reply:
        """Send one request; `expect` is the code of the gateway's own error, quoting nothing."""
        return self.note(self.door.exchange(self.request(body, **how)), expect)

    def raw(self, data: bytes, *, expect: str | None = None, encrypted: bool = True) -> Reply:
        return self.note(self.door.exchange(data, encrypted=encrypted), expect)

    def note(self, reply: Reply, expect: str | None = None) -> Reply:
        self.codes |= reply.codes
        found = reply.header("x-receipt-openings")
        block = find_block(_unchunked(reply.data))
        if found is not None:
            self.openings.append(parse_openings_header(found))
        if block is not None:
            self.openings.append(parse_openings_header(block.openings))
        jti = reply.header("x-receipt-id")
        if jti is not None:
            self.ids.append(jti)
        if expect is not None:
            assert expect in reply.codes, f"expected {expect}, saw {reply.status} {reply.codes}"
            assert self.canary.hidden.encode() not in reply.data.lower()
        return reply

    @property
    def secrets(self) -> dict[str, bytes]:
        """What must never be anywhere: API keys and openings."""
        named = {f"API key {name}": key.encode() for name, key in self.keys.items()}
        for number, openings in enumerate(self.openings):
            named |= {f"opening {number} {label}": key for label, key in openings.keys.items()}
        return named


def _unchunked(data: bytes) -> bytes:
    """The body of a chunked answer; of another one, its bytes as they are."""
    head, _, rest = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head:
        return rest
    body = bytearray()
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size or b"0", 16)
        body += rest[:length]
        rest = rest[length + 2 :]
    return bytes(body)


# -- what admission refuses ----------------------------------------------------------------


def admission_rules(run: Run) -> None:
    token = run.canary.hidden
    for rule in rules.RULES:
        path = rule.only[0] if rule.only else CHAT
        run.ask(run.body(**{rule.field: token}), path=path, key="rules", expect=rule.code)
    run.ask(run.body(**{f"guided_{token}": token}), key="rules", expect="refused_guided")


def admission_members(run: Run) -> None:
    token = run.canary.hidden
    for name in rules.STRUCTURED_OUTPUTS:
        body = run.body(structured_outputs={name: token})
        run.ask(body, key="members", expect="refused_structured_outputs")
    for name in rules.TEMPLATE_ARGUMENTS:
        body = run.body(chat_template_kwargs={name: token})
        run.ask(body, key="members", expect="refused_chat_template_kwargs")
    for name in rules.CHOICES:
        run.ask(run.body(**{name: token}), key="members", expect=f"refused_{name}")
    for prefix in rules.TOOL_PREFIXES:
        run.ask(run.body(tools=[{"type": prefix + token}]), key="members", expect="refused_tool")
    for name in rules.FORBIDDEN_PART_MEMBERS:
        part = {"role": "user", "content": [{name: token, "type": token}]}
        run.ask(run.body(messages=[part]), key="members", expect=f"refused_part_{name}")


def admission_media(run: Run) -> None:
    token = run.canary.hidden
    for part in (
        {"image_url": f"https://{token}.example/a.png"},
        {"image_url": {"url": f"file:///etc/{token}"}},
        {"source": {"url": f"http://u:{token}@h/"}},
        {"input_audio": {"video_url": [token]}},
    ):
        body = run.body(messages=[{"role": "user", "content": [part]}])
        run.ask(body, key="media", expect="refused_remote_media")


def models(run: Run) -> None:
    token = run.canary.hidden
    for name in (f"{token} x", f"{token}\u00e9", token * 9, [token], {token: token}):
        run.ask(run.body(model=name), key="media", expect="model_name")
    run.ask(run.body(), key="one-model", expect="model_not_found")
    document = run.document()
    del document["model"]
    run.ask(json.dumps(document).encode(), key="one-model", expect="model_missing")
    run.ask(path=routes.EMBEDDINGS, key="one-model", expect="route_not_granted")


def json_bodies(run: Run) -> None:
    token = run.canary.hidden.encode()
    for code, body in {
        "encoding": b'{"a":"%b\xff"}' % token,
        "syntax": b'{"a":"%b"' % token,
        "duplicate_member": b'{"%b":1,"%b":2}' % (token, token),
        "number": b'{"%b":1e999}' % token,
        "surrogate": b'{"a":"%b\\ud800"}' % token,
        "depth": b'{"%b":%b}' % (token, b"[" * 200 + b"]" * 200),
    }.items():
        run.ask(body, key="json", expect=f"json_{code}")
    for body in (token, b'["%b"]' % token, b"%b\x00" % token, b'\xef\xbb\xbf"%b"' % token):
        run.ask(body, key="json")
    run.ask(b'{"%b":NaN}' % token, key="json", expect="json_syntax")
    for path in (routes.MESSAGES, routes.RESPONSES, routes.TOKENIZE):
        run.ask(b'{"%b' % token, path=path, key="json", expect="json_syntax")


# -- heads, keys and paths -----------------------------------------------------------------


def heads(run: Run) -> None:
    token = run.canary.hidden
    run.ask(path=f"{CHAT}?{token}={token}", key="heads", expect="query_string")
    for line, code in {
        # Longer than a receipt records: a shorter one would stand in it by design.
        f"content-type: text/{token * 2}": "content_type",
        f"content-type: text/{run.canary.recorded}": "content_type",
        f"content-type: application/json; charset={token}": "content_type",
        f"content-encoding: {token}": "content_encoding",
        f"x-receipt: {token}": "receipt_delivery",
        f"x-receipt-nonce: {token} !": "receipt_nonce",
        f"x-task-id: {token} !": "lineage_task_id",
        f"x-receipt-parents: {token} !": "lineage_parents",
        f"x-receipt-parents: {','.join(f'{token}{n}' for n in range(17))}": "lineage_parents",
    }.items():
        run.ask(headers=(line,), drop=(line.partition(":")[0],), key="heads", expect=code)
    run.ask(headers=(f"x-task-id: {token}",), key="heads", expect="duplicate_header")
    for line in (
        f"traceparent: {token}",
        f"traceparent: {TRACE.format(token[:32].ljust(32, 'g'))}",
        f"tracestate: a={token}",
        f"accept: {token}/*",
        f"x-forwarded-for: {token}",
        f"referer: https://{token}/",
        f"{token}: {token}",
        f"x-odd: {token}\xff",
    ):
        run.ask(headers=(line,))


def strangers(run: Run) -> None:
    token = run.canary.hidden
    run.ask(key=token, expect="invalid_api_key")
    run.ask(key=token, path=routes.MESSAGES, expect="invalid_api_key")
    for line in (f"x-api-key: {token}", f"authorization: Basic {token}"):
        run.ask(headers=(line,), drop=("authorization",), expect="invalid_api_key")
    run.ask(headers=(f"x-api-key: {token}",), expect="invalid_api_key")
    run.ask(method="GET", expect="method_not_allowed")
    run.ask(method="DELETE", path=routes.MESSAGES, expect="method_not_allowed")
    for path in (
        f"/{token}",
        f"/v1/{token}",
        f"/v1/messages/{token}",
        f"/v1/chat/completions/{token}",
        f"/v1/chat%2f{token}",
        f"/{token}?{token}",
        f"/../{token}",
    ):
        run.ask(path=path, expect="not_found")


def protocol(run: Run) -> None:
    token = run.canary.hidden
    start = f"POST {CHAT} HTTP/1.1\r\nhost: a\r\n"
    for data in (
        f"{token}\r\n\r\n",
        f"{token} / HTTP/1.1\r\n\r\n",
        f"GET /{token} HTTP/1.0\r\nhost: a\r\n\r\n",
        f"GET http://{token}/ HTTP/1.1\r\nhost: a\r\n\r\n",
        f"GET //{token} HTTP/1.1\r\nhost: a\r\n\r\n",
        f"GET /{token} HTTP/1.1\r\n\r\n",
        f"GET / HTTP/1.1\r\nhost: {token}\r\nhost: {token}\r\n\r\n",
        f"GET / HTTP/1.1\r\nhost: a b{token}\r\n\r\n",
        f"CONNECT {token}:1 HTTP/1.1\r\nhost: a\r\n\r\n",
        f"GET /{token} HTTP/1.1\r\nhost: a\r\nupgrade: {token}\r\nconnection: upgrade\r\n\r\n",
        f"{start}content-length: {token}\r\n\r\n",
        f"{start}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n{token}",
        f"{start}transfer-encoding: {token}\r\n\r\n",
        f"{start}transfer-encoding: chunked\r\n\r\n{token}\r\n",
        f"{start}{token}\r\n\r\n",
        f"{start}\x00{token}: a\r\n\r\n",
    ):
        run.raw(data.encode("latin-1"), expect="malformed_request")
    run.raw(f"{start}a: {token * 400}\r\n\r\n".encode(), expect="head_too_large")
    run.raw(f"GET /{token * 400} HTTP/1.1\r\n\r\n".encode(), expect="head_too_large")
    run.raw((start + f"{token}: a\r\n" * 100 + "\r\n").encode(), expect="head_too_large")
    trailers = (
        f"connection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{token}: {token}\r\n\r\n"
    )
    run.raw((start + trailers).encode())


def garbage_for_tls(run: Run) -> None:
    token = run.canary.hidden.encode()
    for data in (
        token,
        b"GET /%b HTTP/1.1\r\nhost: %b\r\n\r\n" % (token, token),
        b"\x16\x03\x01\x02\x00\x01" + token * 30,
        b"\x80\x2e\x01\x00\x02" + token,
        b"\x15\x03\x03\x00\x02\x02\x28" + token,
    ):
        with run.door.tcp() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert b"HTTP" not in read_all(sock)


# -- bodies that do not fit or do not come -------------------------------------------------


def large_bodies(run: Run) -> None:
    token = run.canary.hidden.encode()
    large = b'{"a":"%b"}' % (token * (BODY_BYTES // len(token) + 1))
    run.ask(large, key="bodies", expect="request_too_large")
    chunk = b"%x\r\n%b\r\n" % (len(large), large)
    run.bodies.add(large)
    head = run.request(b"", key="bodies", drop=("content-length",))
    data = head[:-2] + b"transfer-encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    run.raw(data, expect="request_too_large")


def slow_body(run: Run) -> None:
    whole = run.request(key="slow")
    with run.door.tls() as sock:
        sock.sendall(whole[:-7])
        run.note(Reply(data=read_all(sock)), "request_timeout")


def slow_head(run: Run) -> None:
    with run.door.tls() as sock:
        sock.sendall(f"POST {CHAT} HTTP/1.1\r\na: {run.canary.hidden}\r\n".encode())
        run.note(Reply(data=read_all(sock)), "head_timeout")


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
    # Several at once on one connection: faster than the budget refills.
    for _ in range(20):
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
    run.ask(key="gone", expect="upstream_connect")
    run.ask(
        path="/v1/models", method="GET", body=b"", drop=("content-type", "content-length"),
        key="gone", expect="connect",
    )  # fmt: skip
    with full_listener(port):
        run.ask(key="gone", expect="upstream_timeout_connect")


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
    with run.door.tls() as sock:
        sock.sendall(run.request(run.body(user="stream-hang"), key="gone"))
        head = read_some(sock, b"\r\n\r\n")
        stop()
        run.note(Reply(data=head + read_all(sock)))


ALL: tuple[Callable[[Run], None], ...] = (
    admission_rules,
    admission_members,
    admission_media,
    models,
    json_bodies,
    heads,
    strangers,
    protocol,
    garbage_for_tls,
    large_bodies,
    slow_body,
    slow_head,
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
