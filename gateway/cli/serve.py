"""`attested serve`: run the gateway until a signal ends it, or its boot ends."""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from attestation.errors import UnavailableError
from gateway.cli.config import add_settings_arguments, load_from_arguments
from gateway.serving import Gateway
from gateway.telemetry.events import Events

if TYPE_CHECKING:
    from gateway.settings import Settings

HELP = "run the gateway in front of an engine"

_EXAMPLES = """examples:
  attested serve --config gateway.toml
  attested serve --config gateway.toml --set listen.port=9443
  attested serve --config gateway.toml --set tls.mode=off    # loopback and sockets only

The address, the keyset and the provider are shown on stderr, then one JSON line an event. SIGTERM
and SIGINT let running requests end, at most limits.drain_seconds, then seal what is left.
"""
_SIMULATED = "SIMULATED: these quotes prove nothing about hardware"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_settings_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve; 0 after a signal, `UnavailableError` if the boot ended by itself."""
    settings = load_from_arguments(args).settings
    # A core file would put the boot's keys and callers' prompts on disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reason = runner.run(_serve(settings))
    if reason:
        raise UnavailableError(
            "the notary ended this boot; nothing more can be receipted",
            code=reason,
            observed=reason,
            hint="see docs/operating.md, then start the gateway anew: it will be another boot",
        )
    return 0


async def _serve(settings: Settings) -> str:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    events = Events(sys.stderr, time.time)

    def on_signal(number: int) -> None:
        events.emit("stopping", signal=number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, int(number))
    gateway = await Gateway.start(settings, events)
    print(start_block(settings, gateway), file=sys.stderr, flush=True)
    ended = asyncio.create_task(gateway.wait_ended())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
    reason = ended.result() if ended.done() else ""
    for task in (ended, stopped):
        task.cancel()
    await gateway.stop()
    return reason


def start_block(settings: Settings, gateway: Gateway) -> str:
    """Return what an operator should see once: where, under which keys, on which evidence."""
    boot, addresses = gateway.boot, gateway.addresses
    simulated = boot.anchor is not None and boot.anchor.trust_domain != "intel"
    lines = {
        "address": addresses.public,
        "admin": addresses.admin or "off",
        "engine": settings.upstream.url or f"unix:{settings.upstream.uds}",
        "log origin": boot.log_origin,
        "keyset digest": boot.keyset_digest.hex,
        "config digest": settings.config_digest.hex,
        "evidence": f"{boot.provider} ({_SIMULATED})" if simulated else boot.provider,
    }
    if simulated:
        root = gateway.notary.journal_path.with_suffix(".root.pem")
        lines["simulated root"] = f"{root} (attested verify --root)"
    if settings.tls.mode == "off":
        lines["channel"] = "plain HTTP: confidentiality of the channel is not proved"
    return "\n".join(
        ["attested-gateway is ready", *(f"  {name:<14} {text}" for name, text in lines.items())]
    )
