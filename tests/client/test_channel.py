"""TLS to a listed key and to no other, decided before a byte of a request leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import ModuleType

import httpx
import httpx2
import pytest

from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, UsageError
from gateway.client.channel import checked_context, pinned_context, require_listed, spki_digest
from gateway.client.endpoint import parse_endpoint
from gateway.edge.tls import BootTls

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class TlsServer:
    """Answers any request head; `plaintext` is what clients were willing to say."""

    def __init__(self, tls: BootTls) -> None:
        self.tls = tls
        self.plaintext = bytearray()
        self.url = ""
        self._server: asyncio.Server

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._answer, "127.0.0.1", 0, ssl=self.tls.context()
        )
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.plaintext += data
            writer.write(ANSWER)
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[TlsServer]:
    # Any name will do: no name is looked at, only the key.
    tls = TlsServer(BootTls.generate(["elsewhere.invalid"], now=1_700_000_000))
    await tls.start()
    yield tls
    await tls.close()


def get_blocking(library: ModuleType, url: str, pins: list[Digest]) -> bytes:
    with library.Client(transport=library.HTTPTransport(verify=pinned_context(pins))) as client:
        content: bytes = client.get(url).content
    return content


@pytest.mark.parametrize("library", [httpx2, httpx], ids=["httpx2", "httpx"])
async def test_blocking_clients_connect_to_a_listed_key(
    server: TlsServer, library: ModuleType
) -> None:
    pins = [Digest.of(b"another"), server.tls.spki_sha256]
    assert await asyncio.to_thread(get_blocking, library, server.url, pins) == b"ok"


@pytest.mark.parametrize("library", [httpx2, httpx], ids=["httpx2", "httpx"])
async def test_blocking_clients_say_nothing_to_another_key(
    server: TlsServer, library: ModuleType
) -> None:
    with pytest.raises(EvidenceError, match="CHANNEL"):
        await asyncio.to_thread(get_blocking, library, server.url, [Digest.of(b"another")])
    assert not server.plaintext


@pytest.mark.parametrize("library", [httpx2, httpx], ids=["httpx2", "httpx"])
async def test_async_clients_are_held_to_the_same_keys(
    server: TlsServer, library: ModuleType
) -> None:
    pins = pinned_context([server.tls.spki_sha256])
    async with library.AsyncClient(transport=library.AsyncHTTPTransport(verify=pins)) as client:
        assert (await client.get(server.url)).content == b"ok"
    server.plaintext.clear()
    wrong = pinned_context([])
    async with library.AsyncClient(transport=library.AsyncHTTPTransport(verify=wrong)) as client:
        with pytest.raises(EvidenceError, match="CHANNEL"):
            await client.get(server.url)
    assert not server.plaintext


async def test_the_key_seen_is_the_one_the_server_has(server: TlsServer) -> None:
    seen: list[Digest] = []
    transport = httpx2.AsyncHTTPTransport(verify=checked_context(seen.append))
    async with httpx2.AsyncClient(transport=transport) as client:
        await client.get(server.url)
    assert seen == [server.tls.spki_sha256]


def test_a_certificate_that_is_none_has_no_key() -> None:
    with pytest.raises(EvidenceError, match="no usable key"):
        spki_digest(b"\x30\x03\x02\x01\x01")


def test_an_empty_list_of_keys_accepts_none() -> None:
    with pytest.raises(EvidenceError, match="none: tls is"):
        require_listed(Digest.of(b"x"), [])


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://gateway.example", "https://gateway.example"),
        ("https://gateway.example:8443/v1", "https://gateway.example:8443"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443"),
        ("https://Gateway.Example:443", "https://gateway.example"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:8000/v1/", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_addresses_of_gateways(url: str, origin: str) -> None:
    endpoint = parse_endpoint(url)
    assert endpoint.origin == origin
    assert endpoint.base_url == f"{origin}/v1"
    assert endpoint.encrypted is url.startswith("https")


def test_a_unix_socket_is_an_address() -> None:
    assert parse_endpoint("unix:/run/gateway.sock").uds == "/run/gateway.sock"


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.example",
        "http://10.0.0.1:8000",
        "http://127.0.0.1.example:80",
        "ftp://gateway.example",
        "gateway.example",
        "https://",
        "https://user:secret@gateway.example",
        "https://gateway.example/v1/chat/completions",
        "https://gateway.example?x=1",
        "https://gateway.example:99999",
        "unix:relative.sock",
    ],
)
def test_other_addresses_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_endpoint(url)
    assert "secret" not in str(caught.value)
