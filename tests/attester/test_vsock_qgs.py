"""Quotes through the host's quote generation service, over real sockets."""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import UnavailableError, UsageError
from attestation.tdx.quote import canonical_quote, parse_quote
from gateway.attester.base import QuoteProvider
from gateway.attester.guest import GuestProvider
from gateway.attester.qgs import MAX_MESSAGE, pack_quote_request, parse_quote_response
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.attester.vsock_qgs import QgsAddress, open_vsock_qgs, parse_config_port
from tests.refusals import refusal
from tests.support.qgs_server import (
    QgsServer,
    framed,
    listening,
    refused,
    report_of,
    response,
)  # fmt: skip
from tests.support.tdx_kernel import TdxKernel

DATA = bytes(range(64))
PLATFORM = SimulatedPlatform(now=1_763_668_800, seed=b"qgs")
ECDSA = bytes.fromhex("e86c046e8cc44d958173fc43c1fa4f3f")
QUOTE = PLATFORM.quote(DATA)


class TickingKernel(TdxKernel):
    """A guest on whose clock each look takes ten seconds."""

    def monotonic(self) -> float:
        self.slept.append(10)
        return super().monotonic()


@pytest.fixture
def kernel() -> TdxKernel:
    return TdxKernel(PLATFORM)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[QgsServer], str]]:
    """Start a server for the length of the test; its socket's path comes back."""
    with ExitStack() as stack:

        def start(server: QgsServer) -> str:
            path = tmp_path / "qgs.socket"
            stack.enter_context(listening(server, path))
            return str(path)

        yield start


def provider(kernel: TdxKernel, address: str = "", **options: str) -> GuestProvider:
    config = Path("/etc/tdx-attest.conf")
    return open_vsock_qgs(address, options, lambda: 0.0, kernel=kernel, config=config)


def signed(kernel: TdxKernel, **changes: object) -> Callable[[bytes], bytes]:
    """What a healthy host answers: a quote over the report it was given."""

    def answer(report: bytes) -> bytes:
        return framed(response(kernel.quote(report[128:192]), **changes))  # type: ignore[arg-type]

    return answer


def fails(kernel: TdxKernel, path: str, timeout: str = "20") -> UnavailableError:
    one = provider(kernel, unix=path, timeout=timeout)
    with pytest.raises(UnavailableError) as caught:
        one.quote(DATA)
    assert not kernel.open_files
    return caught.value


@pytest.mark.parametrize("changes", [{}, {"key_id": ECDSA}, {"minor": 0}, {"minor": 9}], ids=str)
def test_quote_is_over_the_report_data(
    kernel: TdxKernel, serve: Callable[[QgsServer], str], changes: dict[str, object]
) -> None:
    server = QgsServer(signed(kernel, **changes))
    one: QuoteProvider = provider(kernel, unix=serve(server))
    assert parse_quote(one.quote(DATA)).body.report_data == DATA
    assert one.name == "vsock-qgs"
    assert [report[128:192] for report in server.requests] == [DATA]


@pytest.mark.parametrize("piece", [1, 5, 4000])
def test_answer_in_pieces_is_put_together(
    kernel: TdxKernel, serve: Callable[[QgsServer], str], piece: int
) -> None:
    path = serve(QgsServer(signed(kernel), piece=piece))
    assert parse_quote(provider(kernel, unix=path).quote(DATA)).body.report_data == DATA


def test_padded_quote_is_tolerated(kernel: TdxKernel, serve: Callable[[QgsServer], str]) -> None:
    kernel_quote = kernel.quote(DATA)
    path = serve(QgsServer(lambda _: framed(response(kernel_quote + bytes(100_000)))))
    quote = provider(kernel, unix=path).quote(DATA)
    assert canonical_quote(quote) == canonical_quote(kernel_quote)


def test_extension_shows_in_the_next_report(
    kernel: TdxKernel, serve: Callable[[QgsServer], str]
) -> None:
    one = provider(kernel, unix=serve(QgsServer(signed(kernel))))
    one.extend_rtmr3(b"\x07" * 48, name="test", content=b"")
    assert parse_quote(one.quote(DATA)).body.rtmrs[3] == one.read_rtmr3() != bytes(48)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0x12001, "unexpected"), (0x12002, "memory"), (0x12004, "version"), (0xBEEF, "unknown")],
)
def test_refusal_of_the_service_is_told_in_words(
    kernel: TdxKernel, serve: Callable[[QgsServer], str], code: int, words: str
) -> None:
    error = fails(kernel, serve(QgsServer(lambda _: framed(refused(code)))))
    assert error.code == "qgs_error"
    assert f"{code:#x}" in error.observed
    assert words in error.observed


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (response(QUOTE, major=2), "version"),
        (response(QUOTE, major=0), "version"),
        (response(QUOTE, kind=0), "type"),
        (response(QUOTE, kind=3), "type"),
        (response(QUOTE, size=24), "size"),
        (response(QUOTE, quote_size=len(QUOTE) - 1), "sizes"),
        (response(QUOTE, quote_size=len(QUOTE) + 1), "sizes"),
        (response(QUOTE, quote_size=2**32 - 1), "sizes"),
        (response(b""), "sizes"),
        (response(b"", key_id=ECDSA), "sizes"),
        (response(QUOTE, key_id=b"\x01" * 16), "key id"),
        (response(QUOTE, key_id=ECDSA[:15]), "key id"),
        (response(QUOTE, key_id=ECDSA * 2), "key id"),
    ],
)
def test_wrong_response_is_refused(message: bytes, words: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        parse_quote_response(message)
    assert caught.value.code == "qgs_response"
    assert f"wrong {words}" in caught.value.message


@given(st.binary(max_size=200), st.integers(min_value=2, max_value=2**32 - 1))
def test_bytes_that_are_no_response_are_refused(message: bytes, kind: int) -> None:
    forged = message[:4] + struct.pack("<I", kind) + message[8:]
    assert refusal(parse_quote_response, forged, error=UnavailableError) == "qgs_response"


@given(st.binary(min_size=1, max_size=64), st.sampled_from([b"", ECDSA]))
def test_quote_of_every_response_comes_out(quote: bytes, key_id: bytes) -> None:
    assert parse_quote_response(response(quote, key_id=key_id)) == quote


def test_request_is_one_the_service_takes() -> None:
    assert report_of(pack_quote_request(b"\x81" * 1024)) == b"\x81" * 1024


@pytest.mark.parametrize("size", [0, 23, MAX_MESSAGE + 1, 2**32 - 1])
def test_length_out_of_bounds_is_refused_before_anything_is_read(
    kernel: TdxKernel, serve: Callable[[QgsServer], str], size: int
) -> None:
    path = serve(QgsServer(lambda _: struct.pack(">I", size)))
    error = fails(kernel, path)
    assert error.code == "qgs_response"
    assert str(size) in error.observed


@pytest.mark.parametrize("cut", [0, 3, 4, 30, -1])
def test_answer_that_ends_early_is_refused(
    kernel: TdxKernel, serve: Callable[[QgsServer], str], cut: int
) -> None:
    error = fails(kernel, serve(QgsServer(lambda _: framed(response(QUOTE))[:cut])))
    assert error.code == "qgs_closed"


def test_service_that_never_answers_is_given_up(
    kernel: TdxKernel, serve: Callable[[QgsServer], str]
) -> None:
    error = fails(kernel, serve(QgsServer(lambda _: None)), timeout="0.05")
    assert error.code == "qgs_timeout"


def test_service_that_answers_too_slowly_is_given_up_in_the_middle(
    serve: Callable[[QgsServer], str],
) -> None:
    # Looks: for the deadline, before sending, before the first byte.  The fourth is too late,
    # and the first read takes no more than the length, however much has come by then.
    kernel = TickingKernel(PLATFORM)
    error = fails(kernel, serve(QgsServer(signed(kernel), piece=1)), timeout="25")
    assert error.code == "qgs_timeout"


def test_quote_over_other_report_data_is_refused(
    kernel: TdxKernel, serve: Callable[[QgsServer], str]
) -> None:
    stale = kernel.quote(bytes(64))
    error = fails(kernel, serve(QgsServer(lambda _: framed(response(stale)))))
    assert (error.code, error.observed) == ("qgs_other_report", "differences in report_data")


def test_quote_of_another_domain_over_the_same_data_is_refused(
    kernel: TdxKernel, serve: Callable[[QgsServer], str]
) -> None:
    other = replace(PLATFORM.domain, mrtd=b"\x01" * 48)
    quote = PLATFORM.quote(DATA, domain=other)
    error = fails(kernel, serve(QgsServer(lambda _: framed(response(quote)))))
    assert (error.code, error.observed) == ("qgs_other_report", "differences in mrtd")


def test_quote_from_before_an_extension_is_refused(
    kernel: TdxKernel, serve: Callable[[QgsServer], str]
) -> None:
    earlier = kernel.quote(DATA)
    path = serve(QgsServer(lambda _: framed(response(earlier))))
    kernel.rtmr3 = b"\x09" * 48
    assert fails(kernel, path).observed == "differences in rtmrs"


@pytest.mark.parametrize(
    ("quote", "code"),
    [
        (b"no quote", "qgs_quote"),
        (QUOTE[:-1], "qgs_quote"),
        (QUOTE + b"\x01", "qgs_quote"),
        (QUOTE + bytes(20_000) + b"\x01", "overlong"),
        (bytes(5006), "empty"),
    ],
)
def test_answer_without_a_quote_is_refused(
    kernel: TdxKernel, serve: Callable[[QgsServer], str], quote: bytes, code: str
) -> None:
    assert fails(kernel, serve(QgsServer(lambda _: framed(response(quote))))).code == code


def test_nobody_listening_is_told_with_the_address(kernel: TdxKernel, tmp_path: Path) -> None:
    path = tmp_path / "none"
    error = fails(kernel, str(path))
    assert error.code == "qgs_unreachable"
    assert str(path) in error.expected
    assert "ENOENT" in error.observed


def test_path_too_long_for_a_socket_is_told(kernel: TdxKernel) -> None:
    assert fails(kernel, "/" + "x" * 200).code == "qgs_unreachable"


def test_machine_without_the_device_is_told_before_anything_is_asked(kernel: TdxKernel) -> None:
    kernel.paths.clear()
    assert refusal(provider, kernel, error=UnavailableError) == "tdx_device"


def test_real_vsock_carries_the_exchange(kernel: TdxKernel) -> None:
    server = QgsServer(signed(kernel))
    try:
        context = listening(server, (1, socket.VMADDR_PORT_ANY), socket.AF_VSOCK)
        listener = context.__enter__()
    except OSError as error:
        pytest.skip(f"no vsock loopback here: {error}")
    try:
        one = provider(kernel, f"1:{listener.getsockname()[1]}")
        assert parse_quote(one.quote(DATA)).body.report_data == DATA
    finally:
        context.__exit__(None, None, None)


# the address


def address_of(kernel: TdxKernel, address: str, **options: str) -> str:
    return str(provider(kernel, address, **options)._source._address)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("address", "config", "expected"),
    [
        ("", None, "vsock 2:4050"),
        ("", "port = 4321\n", "vsock 2:4321"),
        ("3", "port = 4321\n", "vsock 3:4321"),
        ("3:77", "port = 4321\n", "vsock 3:77"),
        ("", "# nothing\n", "vsock 2:4050"),
    ],
)
def test_port_is_the_uris_or_the_configurations_or_the_usual_one(
    kernel: TdxKernel, address: str, config: str | None, expected: str
) -> None:
    if config is not None:
        kernel.files[Path("/etc/tdx-attest.conf")] = config.encode()
    assert address_of(kernel, address) == expected


def test_configuration_that_cannot_be_read_is_told(kernel: TdxKernel) -> None:
    kernel.files[Path("/etc/tdx-attest.conf")] = b"port = 1\n"
    kernel.faults.calls["open tdx-attest.conf"] = deque([errno.EACCES])
    assert refusal(provider, kernel, error=UnavailableError) == "qgs_config"


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("port=4050", 4050),
        ("  port \t=  4050  \n", 4050),
        ("#port=1\nport=2\nport=3\n", 2),
        ("  # port = 1\n", None),
        ("port = 4050 # the usual one\n", None),
        ("port = 0\n", None),
        ("port = 4294967295\n", None),
        ("port = 12345678901\n", None),
        ("port = x\n", None),
        ("xport = 1\n", None),
        ("", None),
    ],
)
def test_configuration_is_read_as_intels_library_reads_it(text: str, port: int | None) -> None:
    assert parse_config_port(text) == port


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("host", {}),
        ("2:", {}),
        (":4050", {}),
        ("2:0", {}),
        ("4294967295:1", {}),
        ("2:4294967295", {}),
        ("2:4050", {"unix": "/run/qgs"}),
        ("", {"unix": "qgs"}),
        ("", {"device": "tdx_guest"}),
        ("", {"timeout": "0"}),
        ("", {"timeout": "601"}),
        ("", {"colour": "red"}),
        ("", {"rtmr3": "maybe"}),
    ],
)
def test_option_out_of_bounds_is_a_usage_error(
    kernel: TdxKernel, address: str, options: dict[str, str]
) -> None:
    assert refusal(provider, kernel, address, error=UsageError, **options) == "provider"


def test_python_without_vsock_is_told(monkeypatch: pytest.MonkeyPatch, kernel: TdxKernel) -> None:
    monkeypatch.delattr(socket, "AF_VSOCK", raising=False)
    with pytest.raises(OSError, match="AF_VSOCK"):
        QgsAddress().new_socket()
    with pytest.raises(UnavailableError) as caught:
        provider(kernel).quote(DATA)
    assert "configfs-tsm:" in caught.value.hint
