"""An engine that puts the token into everything it says and fails as the request tells it to."""

from __future__ import annotations

import asyncio
import json

from gateway.engine.scripted import JSON, Close, Script, ScriptedEngine
from gateway.engine.wire import EngineRequest, Wire
from tests.canary.search import Canary

DONE = b"data: [DONE]\n\n"
DRIP = "drip"
DRIP_SECONDS = 0.2


def event(text: str) -> bytes:
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [delta]}).encode() + b"\n\n"


def scripts(canary: Canary, *, frame_bytes: int, response_bytes: int) -> dict[str, Script]:
    """What the engine plays, by the request's member `user`."""
    token, recorded = canary.hidden, canary.recorded
    said = event(token)
    answer = json.dumps(
        {
            "model": recorded,
            "choices": [
                {"message": {"content": token}, "finish_reason": recorded[:30]},
                {"message": {"content": token}, "finish_reason": f"{token} stop"},
            ],
            "usage": {"prompt_tokens": token, "completion_tokens": 3},
        }
    ).encode()
    failed = b'data: {"error":{"message":"%b","code":"%b"}}\n\n' % ((token.encode(),) * 2)
    head = f"HTTP/1.1 200 OK\r\n{token}: {token}\r\ncontent-length: 2\r\n\r\n".encode()
    return {
        "plain": Script(writes=(answer,), content_type=JSON),
        "plain-typed": Script(
            writes=(answer,), content_type=f"application/json; v={recorded}"[:40]
        ),
        "plain-odd-type": Script(writes=(answer,), content_type=f'text/x; v="{token}"'),
        "plain-headers": Script(
            writes=(answer,),
            content_type=JSON,
            headers=(("set-cookie", token), ("x-request-id", token), ("server", token)),
        ),
        "no-json": Script(writes=(token.encode(),), content_type=JSON),
        "refusal": Script(writes=(failed[6:],), content_type=JSON, status=400),
        "overload": Script(writes=(failed[6:],), content_type=JSON, status=503),
        "redirect": Script(
            writes=(b"{}",),
            content_type=JSON,
            status=307,
            headers=(("location", f"http://{token}/"),),
        ),
        "stream": Script(writes=(said, said, DONE)),
        "stream-error": Script(writes=(said, failed, DONE)),
        "stream-tail": Script(writes=(said, DONE, said)),
        "stream-cut": Script(writes=(said, said[:-2]), close=Close.NO_LAST_CHUNK),
        "stream-end": Script(writes=(said,)),
        "stream-reset": Script(writes=(said, DONE), close=Close.RST),
        "stream-forged": Script(writes=(said, b": receipt %b\n\n" % token.encode(), DONE)),
        "stream-huge": Script(writes=(said, event(token * (frame_bytes // 20)), DONE)),
        "stream-hang": Script(writes=(said,), close=Close.HANG),
        "stream-odd": Script(writes=(b"\xff\x00" + token.encode(), b"\r\r", DONE)),
        "huge": Script(writes=(b" " * response_bytes, token.encode()), content_type=JSON),
        "short": Script(writes=(answer,), content_type=JSON, close=Close.SHORT),
        "hang": Script(writes=(answer[:40],), content_type=JSON, close=Close.HANG),
        "mute": Script(close=Close.MUTE),
        "drop": Script(close=Close.DROP),
        "no-http": Script(writes=(token.encode() + b"\r\n\r\n",), close=Close.RAW),
        "odd-head": Script(
            writes=(head.replace(b"content-length: 2", b"content-length: 2, 3"),), close=Close.RAW
        ),
        "half-head": Script(writes=(head[:60],), close=Close.RAW),
        "coded": Script(
            writes=(answer,), content_type=JSON, headers=(("content-encoding", token),)
        ),
        "fault-plain": Script(
            writes=(b'{"a":"fault-engine %b"}' % token.encode(),), content_type=JSON
        ),
        "fault-stream": Script(writes=(said, event(f"fault-engine {token}"), DONE)),
    }


class CanaryEngine(ScriptedEngine):
    """Plays `scripts`; `models` is what GET /v1/models gets."""

    def __init__(self, played: dict[str, Script]) -> None:
        super().__init__(self._chosen)
        self._played = played
        self.models = Script(writes=(b'{"data":[],"object":"list"}',), content_type=JSON)

    def _chosen(self, request: EngineRequest) -> Script:
        if request.method == "GET":
            return self.models
        return self._played[json.loads(request.body).get("user", "plain")]

    async def _handle(self, request: EngineRequest, wire: Wire) -> None:
        if request.method == "POST" and json.loads(request.body).get("user") == DRIP:
            await wire.head(
                200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked")
            )
            while not wire.closing:
                await wire.chunk(b": waiting\n\n")
                await asyncio.sleep(DRIP_SECONDS)
            return
        await super()._handle(request, wire)
