"""A notary in a process of its own, with a stop-watch: what the benchmarks measure.

    parent ──{"do": "figures"}──►  child: what it measured since the last answer
           ──{"do": "stop"}─────►  child: ends the boot, answers, exits
           ◄──{"ready": …}───────  first line, once the socket is served

Notary, socket server and disk are the gateway's own; only the stop-watch is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from attestation.encoding.digest import Digest
from benchmarks.disk import PacedLayer
from benchmarks.figures import latencies
from benchmarks.machine import cpu_seconds, resident_mib
from benchmarks.sampling import Sampler
from gateway.attester.base import open_provider
from gateway.notary.boot import BootPlan
from gateway.notary.files import FileLayer
from gateway.notary.local import LocalNotary
from gateway.notary.parts import NotaryParts
from gateway.notary.wire.server import WireServer
from gateway.notary.wire.socket import bind_notary_socket
from gateway.processes.tuning import settle_interpreter
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from attestation.receipt.outcome import Outcome
    from gateway.errors import NotaryUnavailable
    from gateway.notary.interface import Sealed, SealedReceipt
    from gateway.notary.log.commit import Told
    from gateway.notary.log.segments import Location

PROVIDER = "simulated:?latency=1"
"""A quote takes a second, as it does through the stock kernel."""

_DAY_SECONDS = 86_400


class TimedNotary(LocalNotary):
    """Notes in seconds how long `seal` takes, and of that the commit: from the signed record
    being handed to the log to the loop knowing that it is durable.
    """

    sealing: array[float]
    committing: array[float]

    def begin(self) -> tuple[array[float], array[float]]:
        """Start two new lists and return the old ones."""
        old = self.sealing, self.committing
        self.sealing, self.committing = array("d"), array("d")
        return old

    def watch(self) -> None:
        """Start the stop-watch."""
        self.sealing, self.committing = array("d"), array("d")
        commit = self._sequencer.commit
        put = commit.put

        def timed(frame: bytes, told: Told) -> None:
            began = time.perf_counter()

            def told_then(location: Location | None) -> None:
                self.committing.append(time.perf_counter() - began)
                told(location)

            put(frame, told_then)

        commit.put = timed  # type: ignore[method-assign]

    def seal_soon(self, outcome: Outcome, told: Sealed) -> None:
        """Seal as the notary does."""
        began = time.perf_counter()

        def told_then(result: SealedReceipt | NotaryUnavailable) -> None:
            self.sealing.append(time.perf_counter() - began)
            told(result)

        super().seal_soon(outcome, told_then)


def parts_for(data_dir: Path, layer: FileLayer) -> NotaryParts:
    """Return the parts of a notary as `attested serve` would make them, on a simulated platform."""
    now = int(time.time())
    return NotaryParts(
        provider=open_provider(PROVIDER),
        plan=BootPlan(
            name="bench.example",
            config_digest=Digest.of(b"bench"),
            tls_spki=(),
            not_after=now + _DAY_SECONDS,
            now=now,
        ),
        data_dir=data_dir,
        metrics=Metrics(),
        layer=layer,
    )


class Child:
    """The process: one boot, its socket, and the parent's questions."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._sampler = Sampler(active=arguments.profile)
        self._cpu = 0.0

    async def run(self) -> None:
        """Serve until the parent says stop or is gone."""
        layer = PacedLayer(1 / self._arguments.syncs) if self._arguments.syncs else FileLayer()
        began = time.perf_counter()
        notary = await TimedNotary.start(parts_for(self._arguments.data, layer))
        notary.watch()
        server = WireServer(notary, bind_notary_socket(self._arguments.socket))
        await server.start()
        settle_interpreter()
        _say({"ready": round(time.perf_counter() - began, 3)})
        self._cpu = cpu_seconds(os.getpid())
        with self._sampler:
            await self._answer(notary)
        await server.close()
        await notary.close()
        _say({"stopped": True})

    async def _answer(self, notary: TimedNotary) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while (line := await reader.readline()) and json.loads(line)["do"] != "stop":
            _say(self._figures(notary))

    def _figures(self, notary: TimedNotary) -> dict[str, Any]:
        sealing, committing = notary.begin()
        cpu = cpu_seconds(os.getpid())
        used, self._cpu = cpu - self._cpu, cpu
        samples = self._sampler.take()
        shares = {
            name: round(100 * count / samples.total(), 1) for name, count in samples.most_common(25)
        }
        return {
            "sealed": len(sealing),
            "commit": latencies(committing or (0.0,)),
            "seal": latencies(sealing or (0.0,)),
            "cpu_seconds": used,
            "resident_mib": resident_mib(os.getpid()),
            "profile": shares,
        }


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--syncs", type=float, help="syncs a second that the disk shall give")
    parser.add_argument("--profile", action="store_true")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Child(parser.parse_args()).run())


if __name__ == "__main__":
    main()
