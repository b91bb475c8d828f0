"""`vsock-qgs:`: a TD report from the device, signed by the host's quote generation service.

The report never passes the kernel's quote driver, which looks for an answer once a second: over
vsock a quote takes milliseconds.  The service is the host's and only believed as far as its quote
goes: it must repeat the report field by field.
"""

from __future__ import annotations

import errno
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.errors import MalformedError, UnavailableError
from attestation.tdx.quote import parse_quote
from gateway.attester import qgs
from gateway.attester.guest import (
    GuestProvider,
    absolute,
    chosen_registers,
    fitting_quote,
    option_error,
    require_options,
    seconds_of,
)
from gateway.attester.kernel import Kernel, named, read_all
from gateway.attester.tdreport import LocalReport, take_report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEME = "vsock-qgs"
DEVICE = Path("/dev/tdx_guest")
CONFIG = Path("/etc/tdx-attest.conf")
HOST_CID = 2
DEFAULT_PORT = 4050
_MAX_CONFIG = 64 * 1024
_MAX_U32 = 2**32 - 1
_OPTIONS = {"timeout": "20", "rtmr3": "auto", "device": str(DEVICE), "unix": ""}
_MAX_TIMEOUT = 600.0
_ADDRESS = re.compile(r"(\d{1,10})(?::(\d{1,10}))?", re.ASCII)
_PORT_LINE = re.compile(r"\s*port\s*=\s*(\d{1,10})\s*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class QgsAddress:
    """Where the service listens: `unix`, a socket's path, or else context id and port of vsock."""

    cid: int = HOST_CID
    port: int = DEFAULT_PORT
    unix: Path | None = None

    def __str__(self) -> str:
        return f"unix:{self.unix}" if self.unix else f"vsock {self.cid}:{self.port}"

    def new_socket(self) -> socket.socket:
        """Return a socket of the address's family, not connected.  Raises OSError."""
        if self.unix is not None:
            return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        family = getattr(socket, "AF_VSOCK", None)
        if family is None:
            raise OSError(errno.EAFNOSUPPORT, "this Python has no AF_VSOCK")
        return socket.socket(family, socket.SOCK_STREAM)

    def connect(self, connection: socket.socket) -> None:
        """Connect, within the socket's time-out.  Raises OSError."""
        connection.connect(str(self.unix) if self.unix is not None else (self.cid, self.port))


class QgsQuotes:
    """Quotes by `address`; each takes `timeout` seconds at most, once the report is there."""

    def __init__(
        self,
        kernel: Kernel,
        address: QgsAddress,
        *,
        device: Path = DEVICE,
        timeout: float = 20.0,
    ) -> None:
        self._kernel = kernel
        self._address = address
        self._device = device
        self._timeout = timeout

    def require_usable(self) -> None:
        """Raise `UnavailableError` where the device gives no report; the host is not asked."""
        take_report(self._kernel, self._device, bytes(64))

    def quote(self, report_data: bytes) -> bytes:
        """Return a quote over 64 bytes.  Raises `UnavailableError`.

        1. a TD report over the report data, from the device
        2. the service's response, framed, before the deadline
        3. the quote in it repeats the report in every field that both have
        """
        report = take_report(self._kernel, self._device, report_data)
        quote = qgs.parse_quote_response(self._answer(qgs.pack_quote_request(report.raw)))
        _require_same(report, quote)
        return quote

    def _answer(self, request: bytes) -> bytes:
        monotonic = self._kernel.monotonic
        deadline = monotonic() + self._timeout
        try:
            with self._address.new_socket() as connection:
                connection.settimeout(self._timeout)
                self._address.connect(connection)
                return qgs.exchange(connection, request, deadline=deadline, monotonic=monotonic)
        except TimeoutError as error:
            raise self._unreachable("qgs_timeout", f"nothing in {self._timeout:g} s") from error
        except OSError as error:
            raise self._unreachable("qgs_unreachable", named(error), error.errno) from error

    def _unreachable(self, code: str, observed: str, number: int | None = None) -> UnavailableError:
        return UnavailableError(
            "the quote generation service does not answer",
            code=code,
            expected=f"Intel's QGS at {self._address}",
            observed=observed,
            hint=_HINTS.get(number or 0, "is qgsd running on the host, and on this port?"),
        )


def open_vsock_qgs(
    address: str,
    options: Mapping[str, str],
    _clock: Callable[[], float],
    *,
    kernel: Kernel | None = None,
    config: Path = CONFIG,
) -> GuestProvider:
    """Open `vsock-qgs:[CID[:PORT]]?OPTIONS`.

    CID is the host (2); PORT that of /etc/tdx-attest.conf, or 4050.  Options: `timeout` of one
    quote in seconds (20); `rtmr3` as with configfs-tsm; `device`, the TDX device; `unix`, a socket
    to use in place of vsock.  Raises `UsageError`, or `UnavailableError` that says what is missing.
    """
    kernel = kernel or Kernel()
    chosen = require_options(SCHEME, options, _OPTIONS)
    where = _address(kernel, address, chosen["unix"], config)
    quotes = QgsQuotes(
        kernel,
        where,
        device=absolute(SCHEME, "device=", chosen["device"]),
        timeout=seconds_of(SCHEME, "timeout", chosen["timeout"], _MAX_TIMEOUT),
    )
    quotes.require_usable()
    registers, reason = chosen_registers(kernel, chosen["rtmr3"])
    return GuestProvider(SCHEME, quotes, registers, rtmr3_reason=reason)


def parse_config_port(text: str) -> int | None:
    """Return the port that tdx-attest.conf names: the first line `port = NUMBER`, None if none is.

    Lines that begin with # are comments (libtdx_attest).
    """
    for line in text.splitlines():
        found = _PORT_LINE.fullmatch(line)
        if found:
            port = int(found.group(1))
            return port if 0 < port < _MAX_U32 else None
    return None


def _address(kernel: Kernel, text: str, unix: str, config: Path) -> QgsAddress:
    if unix:
        if text:
            raise option_error(SCHEME, "either CID:PORT or unix=, not both", text)
        return QgsAddress(unix=absolute(SCHEME, "unix=", unix))
    found = _ADDRESS.fullmatch(text) if text else None
    if text and found is None:
        raise option_error(SCHEME, "CID or CID:PORT, two numbers", text)
    cid = int(found.group(1)) if found else HOST_CID
    named_port = found.group(2) if found else None
    port = int(named_port) if named_port else _config_port(kernel, config)
    if not (0 <= cid < _MAX_U32 and 0 < port < _MAX_U32):
        raise option_error(SCHEME, f"CID and PORT below {_MAX_U32}", text)
    return QgsAddress(cid=cid, port=port)


def _config_port(kernel: Kernel, config: Path) -> int:
    if not kernel.exists(config):
        return DEFAULT_PORT
    try:
        text = read_all(kernel, config, _MAX_CONFIG).decode("utf-8", "replace")
    except OSError as error:
        raise UnavailableError(
            f"{config} cannot be read",
            code="qgs_config",
            observed=named(error),
            hint=f"name the port in the URI: {SCHEME}:{HOST_CID}:PORT",
        ) from error
    return parse_config_port(text) or DEFAULT_PORT


def _require_same(report: LocalReport, quote: bytes) -> None:
    try:
        body = parse_quote(fitting_quote(quote)).body
    except MalformedError as error:
        raise UnavailableError(
            f"the quote generation service gave no quote: {error.message}",
            code="qgs_quote",
            expected=error.expected,
            observed=error.observed,
        ) from error
    different = report.differences(body)
    if different:
        raise UnavailableError(
            "the quote generation service quoted another report than it was given",
            code="qgs_other_report",
            expected="every field of this domain's TD report",
            observed="differences in " + ", ".join(different),
            hint="the host answers for another trust domain: do not start here",
        )


_HINTS = {
    errno.ENODEV: "this guest has no vsock device: add one to the VM, or use configfs-tsm:",
    errno.EAFNOSUPPORT: "this kernel or Python has no vsock: use configfs-tsm:",
    errno.EACCES: "this process may not use the socket",
    errno.ENOENT: "no socket has this path",
}
