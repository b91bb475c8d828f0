"""A dstack guest for tests: a TD whose RTMR3 extends by dstack's rule, and its agent's socket.

Written after the agent's published interface (guest-agent/rpc/proto/agent_rpc.proto and
cc-eventlog of Dstack-TEE/dstack): POST /METHOD with JSON, hexadecimal byte strings, HTTP 400 with
{"error"} when the agent says no.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attestation.tdx.events import extend
from gateway.attester.simulated.facts import Domain
from gateway.attester.simulated.platform import SimulatedPlatform

RUNTIME = 0x08000001
APP = bytes.fromhex("2911e1f733466216dedb862d6d669e11256ee7a3")
COMPOSE = hashlib.sha256(b"app-compose.json").digest()
PROVIDER = b'{"name":"local-sgx","id":"b5"}'

BOOT_EVENTS: tuple[tuple[int, int, str, bytes], ...] = (
    (0, 0x8000000B, "", b"\x09TdxTable"),
    (0, 0x80000001, "", b"SecureBoot"),
    (0, 4, "", bytes(4)),
    (0, 10, "acpi-tables", b"ACPI DATA"),
    (1, 0x80000003, "", b"kernel"),
    (1, 0x80000007, "", b"Calling EFI Application from Boot Option"),
    (2, 6, "", b"LOADED_IMAGE::LoadOptions"),
    (2, 6, "", b"Linux initrd"),
)
OWN_EVENTS: tuple[tuple[str, bytes], ...] = (
    ("system-preparing", b""),
    ("app-id", APP),
    ("compose-hash", COMPOSE),
    ("instance-id", b""),
    ("boot-mr-done", b""),
    ("key-provider", PROVIDER),
    ("storage-fs", b"zfs"),
    ("system-ready", b""),
)


def runtime_digest(name: str, payload: bytes) -> bytes:
    """What dstack extends RTMR3 by: SHA-384 of type (u32 LE) ":" name ":" payload."""
    return hashlib.sha384(
        struct.pack("<I", RUNTIME) + b":" + name.encode() + b":" + payload
    ).digest()


@dataclass(kw_only=True)
class Guest:
    """The trust domain: registers that only ever extend, and the log that its agent keeps."""

    platform: SimulatedPlatform = field(
        default_factory=lambda: SimulatedPlatform(now=1_763_668_800)
    )
    registers: list[bytes] = field(default_factory=lambda: [bytes(48)] * 4)
    log: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for register, kind, name, payload in BOOT_EVENTS:
            self._note(register, kind, name, payload, hashlib.sha384(b"?" + payload).digest())
        for name, payload in OWN_EVENTS:
            self.emit(name, payload)

    def emit(self, name: str, payload: bytes) -> None:
        """An event of run time, as dstack itself and applications make them."""
        self._note(3, RUNTIME, name, payload, runtime_digest(name, payload))

    def extend_unlogged(self, digest: bytes) -> None:
        """Somebody extends RTMR3 past the agent."""
        self.registers[3] = extend(self.registers[3], digest)

    def quote(self, report_data: bytes) -> bytes:
        first, second, third, fourth = self.registers
        domain = replace(Domain(), rtmrs=(first, second, third, fourth))
        return self.platform.quote(report_data, domain=domain)

    @property
    def own_events(self) -> list[tuple[str, str]]:
        """Name and digest of what extended RTMR3, as a policy lists it."""
        return [(event["event"], event["digest"]) for event in self.log if event["imr"] == 3]

    def _note(self, register: int, kind: int, name: str, payload: bytes, digest: bytes) -> None:
        self.registers[register] = extend(self.registers[register], digest)
        self.log.append(
            {
                "imr": register,
                "event_type": kind,
                "digest": digest.hex(),
                "event": name,
                "event_payload": payload.hex(),
            }
        )


Handler = Callable[[dict[str, Any]], Any]


class Refusal(Exception):  # noqa: N818 - what the agent says, not a failure of the double
    """HTTP 400 with these words."""


class DstackAgent:
    """The agent's side of the socket.  A fault is set for all that follows.

    `fault` gets method and answer (the whole HTTP message) and gives what is sent, in pieces;
    `change` alters an answer before it is written; `resets` closes without having read.
    `version` None is an agent before 0.5.5, which cannot be asked for one.
    """

    def __init__(self, guest: Guest, *, version: str | None = "0.5.11") -> None:
        self.guest = guest
        self.version = version
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fault: Callable[[str, bytes], Iterable[bytes]] = lambda _method, whole: [whole]
        self.resets = False
        self.change: Callable[[str, Any], Any] = lambda _method, answer: answer
        self.strips_digests = True
        self.released = threading.Event()

    def answer(self, method: str, arguments: dict[str, Any]) -> tuple[int, Any]:
        methods: dict[str, Handler] = {"GetQuote": self._quote, "EmitEvent": self._emit}
        if self.version is not None:
            methods["Version"] = lambda _: {"version": self.version, "rev": "0011223344556677"}
        self.calls.append((method, arguments))
        if method not in methods:
            return 400, {"error": f"Service not found: {method}"}
        try:
            return 200, self.change(method, methods[method](arguments))
        except Refusal as refusal:
            return 400, {"error": str(refusal)}

    def _quote(self, arguments: dict[str, Any]) -> dict[str, Any]:
        report_data = bytes.fromhex(arguments["report_data"]).ljust(64, b"\0")
        log = [self._shown(event) for event in self.guest.log]
        return {
            "quote": self.guest.quote(report_data).hex(),
            "event_log": json.dumps(log, separators=(",", ":")),
            "report_data": report_data.hex(),
            "vm_config": '{"cpu_count":2,"memory_size":2147483648}',
        }

    def _shown(self, event: dict[str, Any]) -> dict[str, Any]:
        if not self.strips_digests:
            return dict(event)
        if event["event_type"] == RUNTIME:
            return event | {"digest": ""}
        return event | {"event_payload": ""}

    def _emit(self, arguments: dict[str, Any]) -> None:
        if self.version is not None and self.version >= "0.6":
            raise Refusal("EmitEvent was removed in dstack 0.6.0")
        self.guest.emit(arguments["event"], bytes.fromhex(arguments["payload"]))

    def serve(self, connection: socket.socket) -> None:
        """One request, one answer."""
        if self.resets:
            connection.recv(1, socket.MSG_PEEK)
            connection.close()  # with unread bytes: the other side sees a reset
            return
        with connection, connection.makefile("rb") as stream:
            method = stream.readline().split()[1].decode().lstrip("/")
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            status, document = self.answer(method, json.loads(stream.read(length)))
            body = json.dumps(document).encode()
            reason = "OK" if status == 200 else "Bad Request"
            head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n"
            whole = head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
            for piece in self.fault(method, whole):
                connection.sendall(piece)


@contextmanager
def dstack_guest(path: Path, agent: DstackAgent) -> Iterator[DstackAgent]:
    """Serve `agent` at the socket `path`, each connection in a thread of its own."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_serve, args=(agent, connection), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield agent
    finally:
        agent.released.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _serve(agent: DstackAgent, connection: socket.socket) -> None:
    try:
        agent.serve(connection)
    except (BrokenPipeError, ConnectionResetError):
        return  # the caller went away, as it does when an answer is too large or too late
