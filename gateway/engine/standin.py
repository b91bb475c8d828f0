"""The stand-in engine: vLLM's routes, answered without a model.

    engine = StandInEngine()
    address = await engine.start(port=0)     # http://127.0.0.1:PORT

Answers depend on the request alone; ids contain the caller's X-Request-Id, as vLLM's do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.engine import chat, messages, responses, tokens
from gateway.engine.answers import Ask, EngineError, answer, bad_request, embedding
from gateway.engine.request import Job, Json, integer, parse_body, text_of
from gateway.engine.wire import EngineRequest, EngineServer, Wire

DEFAULT_MODEL = "stand-in-1"
VERSION = "0.0-stand-in"
MAX_MODEL_LEN = 32768
_DIMENSIONS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One generating route: how it reads a request and how it writes an answer."""

    id_prefix: str
    ask: Callable[[Json], Ask]
    plain: Callable[[Job], Json]
    stream: Callable[[Job], Iterator[bytes]]


_ROUTES = {
    "/v1/chat/completions": Route(
        id_prefix="chatcmpl-",
        ask=chat.chat_ask,
        plain=chat.chat_plain,
        stream=chat.chat_stream,
    ),
    "/v1/completions": Route(
        id_prefix="cmpl-",
        ask=chat.completion_ask,
        plain=chat.completion_plain,
        stream=chat.completion_stream,
    ),
    "/v1/responses": Route(
        id_prefix="resp_",
        ask=responses.responses_ask,
        plain=responses.responses_plain,
        stream=responses.responses_stream,
    ),
    "/v1/messages": Route(
        id_prefix="chatcmpl-",
        ask=messages.messages_ask,
        plain=messages.messages_plain,
        stream=messages.messages_stream,
    ),
}


class StandInEngine:
    """Serves `models`; between two events of a stream it waits `delay` seconds."""

    def __init__(self, *, models: tuple[str, ...] = (DEFAULT_MODEL,), delay: float = 0.0) -> None:
        self._models = models
        self._delay = delay
        self._server = EngineServer(self._handle)
        self._started = int(time.time())

    async def start(self, *, port: int = 0, uds: str | None = None) -> str:
        """Listen on loopback or a Unix socket; returns the address."""
        return await self._server.start(port=port, uds=uds)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        await self._server.close()

    async def _handle(self, request: EngineRequest, wire: Wire) -> None:
        path = request.target.partition("?")[0]
        try:
            if request.method == "GET":
                await self._get(path, wire)
            elif request.method == "POST":
                await self._post(path, request, wire)
            else:
                await _send_json(wire, {"detail": "Method Not Allowed"}, 405)
        except EngineError as error:
            await _send_json(wire, _error(path, error), error.status)

    async def _get(self, path: str, wire: Wire) -> None:
        if path == "/health":
            await wire.answer(200, "text/plain", b"")
        elif path == "/version":
            await _send_json(wire, {"version": VERSION})
        elif path == "/v1/models":
            await _send_json(
                wire, {"object": "list", "data": [self._card(m) for m in self._models]}
            )
        elif path in _ROUTES or path in _HELPERS:
            await _send_json(wire, {"detail": "Method Not Allowed"}, 405)
        else:
            await _send_json(wire, {"detail": "Not Found"}, 404)

    async def _post(self, path: str, request: EngineRequest, wire: Wire) -> None:
        route = _ROUTES.get(path)
        helper = _HELPERS.get(path)
        if route is None and helper is None:
            await _send_json(wire, {"detail": "Not Found"}, 404)
            return
        body = parse_body(request.body)
        model = self._model(body)
        if route is not None:
            await self._generate(route, self._job(route, request, body, model), wire)
        elif helper is not None:
            await _send_json(wire, helper(body, model))

    async def _generate(self, route: Route, job: Job, wire: Wire) -> None:
        if job.body.get("stream") is not True:
            await _send_json(wire, route.plain(job))
            return
        await wire.head(
            200,
            ("content-type", "text/event-stream; charset=utf-8"),
            ("transfer-encoding", "chunked"),
        )
        for event in route.stream(job):
            await wire.chunk(event)
            await asyncio.sleep(self._delay)
        await wire.chunk(b"")

    def _job(self, route: Route, request: EngineRequest, body: Json, model: str) -> Job:
        ask = route.ask(body)
        name = request.header("x-request-id") or uuid.uuid4().hex
        # vLLM draws its own id for the Responses API and ignores the header there.
        tail = uuid.uuid4().hex if route.id_prefix == "resp_" else name
        return Job(
            id=route.id_prefix + tail,
            created=int(time.time()),
            model=model,
            body=body,
            ask=ask,
            choices=answer(ask),
        )

    def _model(self, body: Json) -> str:
        model = body.get("model", self._models[0])
        if model not in self._models:
            raise EngineError(404, "NotFoundError", f"The model `{model}` does not exist.", "model")
        return str(model)

    def _card(self, model: str) -> Json:
        return {
            "id": model,
            "object": "model",
            "created": self._started,
            "owned_by": "stand-in",
            "root": model,
            "parent": None,
            "max_model_len": MAX_MODEL_LEN,
        }


def _count_tokens(body: Json, _model: str) -> Json:
    return {"input_tokens": messages.messages_ask({**body, "max_tokens": 1}).prompt_tokens}


def _tokenize(body: Json, _model: str) -> Json:
    prompt = body.get("prompt")
    if isinstance(body.get("messages"), list):
        prompt = "".join(text_of(m.get("content")) for m in body["messages"] if isinstance(m, dict))
    if not isinstance(prompt, str):
        raise bad_request("prompt or messages must be given.", "prompt")
    ids = tokens.encode(prompt)
    return {"count": len(ids), "max_model_len": MAX_MODEL_LEN, "tokens": ids, "token_strs": None}


def _detokenize(body: Json, _model: str) -> Json:
    ids = body.get("tokens")
    if not isinstance(ids, list) or not all(type(token) is int and token > 0 for token in ids):
        raise bad_request("tokens must be a list of token ids.", "tokens")
    return {"prompt": chat.decode_ids(ids)}


def _embeddings(body: Json, model: str) -> Json:
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise bad_request("input must be a string or a list of strings.", "input")
    size = integer(body.get("dimensions"), "dimensions", default=_DIMENSIONS, maximum=4096)
    vectors = [embedding(text, size) for text in texts]
    packed = body.get("encoding_format") == "base64"
    used = sum(tokens.count(text) for text in texts)
    return {
        "id": f"embd-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [
            {
                "index": index,
                "object": "embedding",
                "embedding": _base64_floats(vector) if packed else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": used, "total_tokens": used, "completion_tokens": 0},
    }


_HELPERS: dict[str, Callable[[Json, str], Json]] = {
    "/v1/messages/count_tokens": _count_tokens,
    "/tokenize": _tokenize,
    "/detokenize": _detokenize,
    "/v1/embeddings": _embeddings,
}


def _base64_floats(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _error(path: str, error: EngineError) -> Json:
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": error.kind, "message": error.message}}
    # vLLM's codes are integers, where OpenAI has a string or null.
    return {
        "error": {
            "message": error.message,
            "type": error.kind,
            "param": error.param,
            "code": error.status,
        }
    }


async def _send_json(wire: Wire, value: Json, status: int = 200) -> None:
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    await wire.answer(status, "application/json", body)
