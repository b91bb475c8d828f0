"""The proxy that one writes first: FastAPI, one shared httpx client, StreamingResponse.

Runs in the competitors' environment, not in the project's.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask


def build(engine: str) -> FastAPI:
    """Return the application in front of an engine."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        forever = httpx.Timeout(None)
        async with httpx.AsyncClient(base_url=engine, limits=limits, timeout=forever) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.client
        sent = client.build_request(
            "POST",
            "/v1/chat/completions",
            content=await request.body(),
            headers={"content-type": "application/json"},
        )
        answer = await client.send(sent, stream=True)
        kind = answer.headers.get("content-type", "application/json")
        if not kind.startswith("text/event-stream"):
            return Response(
                await answer.aread(), answer.status_code, headers={"content-type": kind}
            )
        return StreamingResponse(
            answer.aiter_raw(),
            answer.status_code,
            headers={"content-type": kind},
            background=BackgroundTask(answer.aclose),
        )

    return app


def main() -> None:
    """Run it with one worker and no access log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", required=True)
    arguments = parser.parse_args()
    uvicorn.run(
        build(arguments.engine),
        host="127.0.0.1",
        port=arguments.port,
        access_log=False,
        log_level="warning",
        loop="uvloop",
        http="httptools",
        backlog=4096,
    )


if __name__ == "__main__":
    main()
