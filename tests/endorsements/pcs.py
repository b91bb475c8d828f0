"""A double of Intel's service, and of a PCCS: real HTTP on loopback, real paths, real headers.

Bodies are put together as Intel's service does: the signed text between `{"tcbInfo":` and
`,"signature":"…"}`, chains URL-encoded in headers, revocation lists as DER; a PCCS gives the
root's list in hexadecimal.  `faults` changes answers: a name of `FAULTS`, by document.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

from attestation.tdx.collateral import Collateral
from attestation.tdx.endorsements import parse_endorsements
from gateway.endorsements.service import Service

TCB, QE, PCK_CRL, ROOT_CRL = "tcb", "qe", "pckcrl", "rootcrl"
_PATHS = {
    "/tdx/certification/v4/tcb": TCB,
    "/tdx/certification/v4/qe/identity": QE,
    "/sgx/certification/v4/pckcrl": PCK_CRL,
    "/sgx/certification/v4/rootcacrl": ROOT_CRL,
    "/IntelSGXRootCA.der": ROOT_CRL,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: status, headers, body; `length` lies about the body where it is not None."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


Fault = Callable[[Reply], Reply]


def honest(one: Collateral, document: str, *, hexadecimal: bool) -> Reply:
    if document == TCB:
        body = b'{"tcbInfo":%s,"signature":"%s"}' % (
            one.tcb_info.encode(),
            one.tcb_info_signature.hex().encode(),
        )
        return Reply(200, {"TCB-Info-Issuer-Chain": quote(one.tcb_info_issuer_chain)}, body)
    if document == QE:
        body = b'{"enclaveIdentity":%s,"signature":"%s"}' % (
            one.qe_identity.encode(),
            one.qe_identity_signature.hex().encode(),
        )
        chain = {"SGX-Enclave-Identity-Issuer-Chain": quote(one.qe_identity_issuer_chain)}
        return Reply(200, chain, body)
    if document == PCK_CRL:
        return Reply(
            200, {"SGX-PCK-CRL-Issuer-Chain": quote(one.pck_crl_issuer_chain)}, one.pck_crl
        )
    return Reply(200, {}, one.root_ca_crl.hex().encode() if hexadecimal else one.root_ca_crl)


@dataclass
class PcsDouble:
    """What a running double serves and has seen.  `sets` by FMSPC in upper case."""

    sets: dict[str, Collateral]
    port: int = 0
    scheme: str = "http"
    asked: list[str] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    early: dict[str, Collateral] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def pcs(self) -> Service:
        """The double as Intel's service: the root's list at another place, in DER."""
        return Service(base=self.url, root_crl=f"{self.url}/IntelSGXRootCA.der")

    def fail(self, document: str, *faults: Fault) -> None:
        """Change the next answers for a document, one after another; the last stays."""
        self.faults[document] = list(faults)

    def reply(self, target: str) -> Reply:
        parts = urlsplit(target)
        document = _PATHS.get(parts.path)
        if document is None:
            return Reply(404)
        self.asked.append(target)
        query = dict(parse_qsl(parts.query))
        reply = self._document(document, query, hexadecimal="rootcacrl" in parts.path)
        waiting = self.faults.get(document, [])
        if waiting:
            reply = (waiting.pop(0) if len(waiting) > 1 else waiting[0])(reply)
        return reply

    def _document(self, document: str, query: dict[str, str], *, hexadecimal: bool) -> Reply:
        sets = self.early if query.get("update") == "early" else self.sets
        if document == TCB:
            one = sets.get(query["fmspc"])
            return Reply(404) if one is None else honest(one, TCB, hexadecimal=False)
        if document == PCK_CRL and query.get("encoding") != "der":
            return Reply(200, {}, b"-----BEGIN X509 CRL-----\n")
        chosen = [
            one
            for one in sets.values()
            if document != PCK_CRL or parse_endorsements(one).ca == query["ca"]
        ]
        return honest(chosen[0], document, hexadecimal=hexadecimal) if chosen else Reply(404)


def _handler(double: PcsDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            reply = double.reply(self.path)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            length = len(reply.body) if reply.length is None else reply.length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            try:
                self.wfile.write(reply.body)
            except OSError:
                # The client has seen enough.
                self.close_connection = True
            if reply.length is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that refuse this server's certificate are part of the tests."""


@contextmanager
def serving(*sets: Collateral, tls: tuple[Path, Path] | None = None) -> Iterator[PcsDouble]:
    """Serve these sets until the end of the block; `tls` is certificate and key, PEM."""
    double = PcsDouble(sets={parse_endorsements(one).fmspc.upper(): one for one in sets})
    server = _Server(("127.0.0.1", 0), _handler(double))
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        double.scheme = "https"
    double.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def honestly(reply: Reply) -> Reply:
    return reply


def status(code: int, **headers: str) -> Fault:
    """Answer with this status and nothing else; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Reply(code, named)


def body(data: bytes) -> Fault:
    return lambda reply: replace(reply, body=data)


def edited(change: Callable[[bytes], bytes]) -> Fault:
    return lambda reply: replace(reply, body=change(reply.body))


def truncated(reply: Reply) -> Reply:
    return replace(reply, body=reply.body[:-20], length=len(reply.body))


def without_headers(reply: Reply) -> Reply:
    return replace(reply, headers={})


def header(name: str, value: str) -> Fault:
    return lambda reply: replace(reply, headers={name: value})
