"""`attested demo-engine`: the stand-in engine on its own, in front of which a gateway can run."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from attestation.errors import UsageError
from gateway.engine.standin import DEFAULT_MODEL, StandInEngine

HELP = "run a stand-in engine that speaks vLLM's wire format (no model inside)"

_EXAMPLES = """examples:
  attested demo-engine --port 8000
  attested demo-engine --uds /run/engine.sock --model my-model

Answers are made up, and depend on the request alone. Stop it with Ctrl-C.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)"
    )
    where.add_argument("--uds", metavar="PATH", help="listen on this Unix socket instead")
    parser.add_argument(
        "--model", action="append", metavar="NAME", help=f"model to serve (default {DEFAULT_MODEL})"
    )
    parser.add_argument(
        "--delay-ms", type=int, default=0, metavar="N", help="pause between two events of a stream"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; the address is the one line on stdout."""
    models = tuple(args.model or (DEFAULT_MODEL,))
    engine = StandInEngine(models=models, delay=args.delay_ms / 1000)
    asyncio.run(_serve(engine, args.port, args.uds))
    return 0


async def _serve(engine: StandInEngine, port: int, uds: str | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(await _start(engine, port, uds), flush=True)
    print("stand-in engine: answers are made up, nothing is attested here", file=sys.stderr)
    await stop.wait()
    await engine.close()


async def _start(engine: StandInEngine, port: int, uds: str | None) -> str:
    try:
        return await engine.start(port=port, uds=uds)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"the engine cannot listen on {uds or f'port {port}'}",
            code="listen",
            expected="a free port from 0 to 65535, or the path of a socket that can be made",
            observed=(error.strerror if isinstance(error, OSError) else None) or "no such port",
            hint="is another process listening there? choose another --port or --uds",
        ) from error
