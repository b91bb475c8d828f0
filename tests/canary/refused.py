"""Requests that the gateway refuses or never gets whole, each with the token in it."""

from __future__ import annotations

import json
import socket

from gateway.edge import routes, rules
from tests.canary.driving import BODY_BYTES, CHAT, Run
from tests.canary.wire import Reply, read_all

TRACE = "00-{}-00f067aa0ba902b7-01"


# -- what admission refuses ----------------------------------------------------------------


def admission_rules(run: Run) -> None:
    token = run.canary.hidden
    # A caller's salt is used, not refused, where the gateway salts (the default).
    run.ask(run.body(cache_salt=token), key="rules")
    for rule in rules.RULES:
        if rule.field == "cache_salt":
            continue
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
        f"{start}{token}\r\n\r\n",
        f"{start}\x00{token}: a\r\n\r\n",
    ):
        run.raw(data.encode("latin-1"), expect="malformed_request")
    # Who has no key is told so, whatever its body is.
    broken = f"transfer-encoding: chunked\r\n\r\n{token}\r\n"
    run.raw((start + broken).encode(), expect="invalid_api_key")
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
