"""`attested serve`: run the gateway until a signal ends it, or its boot ends."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop

from attestation.errors import UnavailableError
from gateway.cli.config import add_settings_arguments, load_from_arguments
from gateway.processes.child import allow_open_files, forbid_core_dumps
from gateway.processes.supervisor import Processes, Supervisor
from gateway.processes.users import require_two_users
from gateway.serving import Gateway
from gateway.telemetry.events import Events

if TYPE_CHECKING:
    from gateway.settings import Settings

    Running = Gateway | Supervisor

HELP = "run the gateway in front of an engine"

_EXAMPLES = """examples:
  attested serve --config gateway.toml
  attested serve --config gateway.toml --workers 4
  attested serve --config gateway.toml --set listen.port=9443
  attested serve --config gateway.toml --set tls.mode=off    # loopback and sockets only
  attested serve --config gateway.toml --json                # one line on stdout when it is ready

A supervisor, one notary and N workers; --workers 0 serves in one process. The address, the keyset,
the provider and the processes are shown on stderr, then one JSON line an event. SIGTERM and SIGINT
let running requests end, at most limits.drain_seconds, then seal what is left; a second one cuts
them at once.

exit codes: 0 a signal ended it; 2 usage, or settings that are refused; 10 a log or evidence that
contradicts itself; 13 a file that is malformed; 14 something it needs is not to be had, or the
boot ended by itself
"""
_SIMULATED = "SIMULATED: these quotes prove nothing about hardware"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_settings_arguments(parser)
    parser.add_argument(
        "--workers", metavar="N", help="worker processes, the same as --set workers=N"
    )
    parser.add_argument(
        "--json", action="store_true", help="say on stdout, in one line of JSON, that it is ready"
    )


def run(args: argparse.Namespace) -> int:
    """Serve; 0 after a signal, `UnavailableError` if the boot ended by itself."""
    if args.workers is not None:
        args.assignments = [*args.assignments, f"workers={args.workers}"]
    settings = load_from_arguments(args).settings
    require_two_users(settings.notary)
    # A core file would put the boot's keys and callers' prompts on disk.
    forbid_core_dumps()
    allow_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reason = runner.run(_serve(settings, show_json if args.json else show_block))
    if reason:
        raise UnavailableError(
            "the boot ended; nothing more can be receipted",
            code=reason,
            observed=reason,
            hint="see docs/operating.md, then start the gateway anew: it will be another boot",
        )
    return 0


async def _serve(settings: Settings, show: Any) -> str:  # noqa: ANN401 - one of the two below
    events = Events(sys.stderr, time.time)
    signals = _Signals(events)
    starting = asyncio.create_task(_start(settings, events))
    stopped = asyncio.create_task(signals.first.wait())
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return ""
    gateway = starting.result()
    signals.on_second = gateway.cut
    show(settings, gateway)
    ended = asyncio.create_task(gateway.wait_ended())
    await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
    reason = ended.result() if ended.done() else ""
    for task in (ended, stopped):
        task.cancel()
    await gateway.stop()
    return reason


async def _start(settings: Settings, events: Events) -> Running:
    if settings.workers == 0:
        return await Gateway.start(settings, events)
    return await Supervisor.start(settings, events)


class _Signals:
    """The first SIGTERM or SIGINT asks for an orderly end, every later one for a quick one."""

    def __init__(self, events: Events) -> None:
        self.first = asyncio.Event()
        self.on_second = _nothing
        self._events = events
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._arrived, int(number))

    def _arrived(self, number: int) -> None:
        self._events.emit("stopping", signal=number)
        if self.first.is_set():
            self.on_second()
        self.first.set()


def _nothing() -> None:
    """Nothing runs yet that could be cut."""


def show_block(settings: Settings, gateway: Running) -> None:
    """Print what an operator should see once: where, under which keys, on which evidence."""
    facts = _facts(settings, gateway)
    simulated = facts["simulated"]
    processes = facts["processes"]
    lines = {
        "address": facts["address"],
        "admin": facts["admin"] or "off",
        "engine": facts["engine"],
        "log origin": facts["log_origin"],
        "keyset digest": facts["keyset_digest"],
        "config digest": facts["config_digest"],
        "evidence": f"{facts['provider']} ({_SIMULATED})" if simulated else facts["provider"],
        "processes": _in_words(processes),
    }
    if processes["socket"] is not None:
        lines["notary socket"] = processes["socket"]
    if simulated:
        whose = f", which only {settings.notary.user} can read" if settings.notary.apart else ""
        lines["simulated root"] = f"{facts['simulated_root']}{whose} (attested verify --root)"
    if gateway.boot.evidence.event_log is None:
        lines["keys"] = "not bound to RTMR3: a policy must say unbound_keys to accept them"
    if settings.tls.mode == "off":
        lines["channel"] = "plain HTTP: confidentiality of the channel is not proved"
    block = ["attested-gateway is ready", *(f"  {name:<14} {text}" for name, text in lines.items())]
    print("\n".join(block), file=sys.stderr, flush=True)


def show_json(settings: Settings, gateway: Running) -> None:
    """Print the same as one line of JSON on stdout."""
    print(json.dumps({"ready": True, **_facts(settings, gateway)}, sort_keys=True), flush=True)


def _facts(settings: Settings, gateway: Running) -> dict[str, Any]:
    boot, addresses = gateway.boot, gateway.addresses
    simulated = boot.anchor is not None and boot.anchor.trust_domain != "intel"
    folder = settings.notary.data_dir / boot.log_origin.rpartition("/")[2]
    return {
        "address": addresses.public,
        "admin": addresses.admin,
        "config_digest": settings.config_digest.hex,
        "engine": ", ".join(engine.address for engine in settings.engines),
        "keyset_digest": boot.keyset_digest.hex,
        "log_origin": boot.log_origin,
        "processes": _processes(gateway),
        "provider": boot.provider,
        "simulated": simulated,
        "simulated_root": str(folder / "root.pem") if simulated else None,
    }


def _processes(gateway: Running) -> dict[str, Any]:
    if isinstance(gateway, Gateway):
        own = os.getpid()
        return {"supervisor": own, "notary": own, "workers": [own], "socket": None}
    running: Processes = gateway.processes
    return {
        "supervisor": running.supervisor,
        "notary": running.notary,
        "workers": list(running.workers),
        "socket": str(running.socket),
    }


def _in_words(processes: dict[str, Any]) -> str:
    if processes["socket"] is None:
        return f"one, pid {processes['supervisor']}"
    workers = ", ".join(map(str, processes["workers"]))
    return f"supervisor {processes['supervisor']}, notary {processes['notary']}, workers {workers}"
