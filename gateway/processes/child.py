"""What the notary and the workers have in common as processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from attestation.errors import AttestationError
from gateway.processes.channel import Channel, Message, error_to_json
from gateway.settings import Settings

CRASHED: Final = 1
_DEBUG_VARIABLE: Final = "ATTESTED_DEBUG"
_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h

Serve = Callable[[Channel, Message], Awaitable[None]]


def run_child(serve: Serve) -> int:
    """Run a process that the supervisor started and return its exit code.

    The one argument is the number of the inherited channel.  A refusal is reported on the
    channel; anything unforeseen only by its type, because a foreign text may quote content.
    """
    forbid_core_dumps()
    allow_open_files()
    # A terminal, or a service manager, signals every process of the group at once.  Only the
    # supervisor knows the order in which they may end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(serve, socket.socket(fileno=int(sys.argv[1]))))


async def _run(serve: Serve, sock: socket.socket) -> int:
    channel = await Channel.open(sock)
    try:
        message = await channel.receive()
        if message is not None:
            await serve(channel, message)
    except AttestationError as error:
        channel.send("failed", **error_to_json(error))
    except Exception as error:  # noqa: BLE001 - the last line of defence, as in the command itself
        if os.environ.get(_DEBUG_VARIABLE):
            traceback.print_exception(error)
        channel.send("crashed", error=type(error).__name__)
        return CRASHED
    finally:
        await channel.close()
    return 0


def settings_of(message: Message) -> Settings:
    """Return the settings that the supervisor sent with its first message."""
    return Settings.model_validate(message["settings"])


def forbid_core_dumps() -> None:
    """Keep keys and callers' content off the disk, whatever kills this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow_open_files() -> None:
    """Take as many open files as this process may: every caller needs two, one to the engine.

    The soft limit is low for the sake of programs that use select(2); nothing here does.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def forbid_inspection() -> None:
    """Keep other processes of this user from reading this one's memory (prctl(2)).

    Nothing rests on it where the kernel refuses: root can read all memory anyway.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
