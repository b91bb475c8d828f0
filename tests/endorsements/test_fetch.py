"""Fetching from a service that is honest, faulty or hostile; every fault has its end."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from attestation.errors import (
    MalformedError,
    UnavailableError,
    UsageError,
)
from gateway.attester.simulated.facts import Endorsements
from gateway.edge.tls import BootTls
from gateway.endorsements.service import fetch_endorsements, parse_service
from gateway.endorsements.transfer import Patience, Transfer, require_secure
from tests.endorsements import pcs
from tests.endorsements.fetching import FMSPC, GOOD, NOW, PLATFORM, WANTED, Steps, fetch
from tests.endorsements.pcs import PCK_CRL, QE, ROOT_CRL, TCB, PcsDouble, serving
from tests.refusals import refusal


def test_set_from_intels_service_is_the_one_that_was_signed(double: PcsDouble) -> None:
    assert fetch(double) == GOOD
    assert double.asked == [
        f"/tdx/certification/v4/tcb?fmspc={FMSPC.upper()}&update=standard",
        "/tdx/certification/v4/qe/identity?update=standard",
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "/IntelSGXRootCA.der",
    ]


@pytest.mark.parametrize("path", ["", "/", "/sgx/certification/v4/", "/tdx/certification/v4"])
def test_set_from_a_cache_is_the_same_with_its_root_list_in_hexadecimal(
    double: PcsDouble, path: str
) -> None:
    assert fetch(double, service=parse_service(double.url + path)) == GOOD
    assert double.asked[-1] == "/sgx/certification/v4/rootcacrl"


def test_early_set_is_asked_for_by_name(double: PcsDouble) -> None:
    facts = Endorsements(evaluation_number=21, qe_evaluation_number=21)
    double.early = {FMSPC.upper(): PLATFORM.but(endorsements=facts).collateral()}
    assert fetch(double, early=True) == double.early[FMSPC.upper()]
    assert fetch(double) == GOOD


def test_older_name_of_the_header_is_understood(double: PcsDouble) -> None:
    chain = pcs.honest(GOOD, TCB, hexadecimal=False).headers["TCB-Info-Issuer-Chain"]
    double.fail(TCB, pcs.header("SGX-TCB-Info-Issuer-Chain", chain))
    assert fetch(double) == GOOD


def test_members_in_another_order_and_white_space_change_nothing(double: PcsDouble) -> None:
    signature = GOOD.tcb_info_signature.hex()
    loose = f' {{ "signature" : "{signature.upper()}" ,\r\n\t"tcbInfo": {GOOD.tcb_info} }}\n'
    double.fail(TCB, pcs.body(loose.encode()))
    assert fetch(double) == GOOD


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_passing_fault_is_waited_out_with_growing_pauses(double: PcsDouble, code: int) -> None:
    fault = pcs.status(code)
    double.fail(QE, fault, fault, fault, pcs.honestly)
    steps = Steps()
    assert fetch(double, steps=steps) == GOOD
    assert steps.slept == [0.5, 1.0, 2.0]


def test_service_says_how_long_to_wait(double: PcsDouble) -> None:
    double.fail(TCB, pcs.status(429, Retry_After="7"), pcs.honestly)
    steps = Steps()
    fetch(double, steps=steps)
    assert steps.slept == [7.0]


@pytest.mark.parametrize("asked", ["100000", "-1", "soon", "99999999999999999999"])
def test_no_wait_goes_beyond_the_deadline(double: PcsDouble, asked: str) -> None:
    double.fail(TCB, pcs.status(503, Retry_After=asked))
    steps = Steps()
    seen = refusal(fetch, double, steps=steps, error=UnavailableError)
    assert seen == "status"
    assert steps.now < 60


def test_truncated_answer_is_asked_for_again(double: PcsDouble) -> None:
    double.fail(TCB, pcs.truncated, pcs.honestly)
    steps = Steps()
    assert fetch(double, steps=steps) == GOOD
    assert steps.slept == [0.5]
    double.fail(TCB, pcs.truncated)
    assert refusal(fetch, double, error=UnavailableError) == "unreachable"


@pytest.mark.parametrize("document", [TCB, QE, PCK_CRL, ROOT_CRL])
def test_absent_document_is_final(double: PcsDouble, document: str) -> None:
    double.fail(document, pcs.status(404))
    steps = Steps()
    assert refusal(fetch, double, steps=steps, error=UnavailableError) == "absent"
    assert steps.slept == []


@pytest.mark.parametrize("code", [400, 401, 403])
def test_refusal_by_the_service_is_final(double: PcsDouble, code: int) -> None:
    double.fail(TCB, pcs.status(code))
    assert refusal(fetch, double, error=UnavailableError) == "status"


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirect_is_not_followed(double: PcsDouble, code: int) -> None:
    with serving(GOOD) as other:
        double.fail(TCB, pcs.status(code, Location=other.url))
        assert refusal(fetch, double, error=UnavailableError) == "redirect"
        assert other.asked == []


def test_answer_without_bound_is_not_read_to_its_end(double: PcsDouble) -> None:
    double.fail(TCB, pcs.body(b"{" + b" " * (1 << 21)))
    assert refusal(fetch, double, error=MalformedError) == "size"


def test_silent_service_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        source = Transfer(Patience(seconds=0.3))
        seen = refusal(
            fetch_endorsements,
            parse_service(url), WANTED, source, PLATFORM.anchor, NOW,
            error=UnavailableError,
        )  # fmt: skip
        assert seen == "unreachable"


def test_answer_that_trickles_is_given_up_at_the_deadline() -> None:
    steps = Steps()

    def trickle(listener: socket.socket) -> None:
        with suppress(OSError), listener.accept()[0] as peer:
            peer.recv(4096)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            steps.now += 61.0
            peer.sendall(b" ")
            peer.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert refusal(Transfer(steps.patience()).get, url, error=UnavailableError) == "unreachable"


def test_head_that_never_ends_is_given_up_at_the_deadline() -> None:
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        with suppress(OSError), listener.accept()[0] as peer:
            peer.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not over.wait(0.02):
                peer.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        source = Transfer(Patience(seconds=0.3))
        assert refusal(source.get, url, error=UnavailableError) == "unreachable"
        over.set()
        thread.join(60)


def test_nobody_at_the_address_is_said_with_the_way_without_a_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnavailableError) as caught:
        Transfer(Steps().patience()).get(f"http://127.0.0.1:{port}/")
    assert caught.value.code == "unreachable"
    assert "export" in caught.value.hint
    assert caught.value.exit_code == 14


@pytest.mark.parametrize(
    "url",
    [
        "http://pccs.example:8081",
        "http://10.0.0.1",
        "http://127.0.0.1.example",
        "ftp://127.0.0.1",
        "pccs.example",
        "https://",
        "https://user:secret@pccs.example",
        "https://pccs.example/?x=1",
        "https://pccs.example:port",
        "https://pccs.example:99999",
        "",
    ],
)
def test_address_without_tls_or_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_service(url)
    assert "secret" not in str(caught.value)


def test_loopback_needs_no_tls() -> None:
    assert require_secure("http://[::1]:8081")
    assert require_secure("http://localhost")
    assert not require_secure("https://pccs.example")


def test_tls_certificate_must_lead_to_a_root_that_is_named(tmp_path: Path) -> None:
    made = BootTls.generate(("127.0.0.1",), now=int(time.time()))
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.chain_pem)
    key.write_bytes(made.key_pem)
    with serving(GOOD, tls=(certificate, key)) as double:
        assert refusal(fetch, double, error=UnavailableError) == "unreachable"
        source = Transfer(Steps().patience(), roots=certificate)
        found = fetch_endorsements(double.pcs, WANTED, source, PLATFORM.anchor, NOW)
        assert found.collateral == GOOD
    for wrong in (tmp_path / "absent.pem", key):
        assert refusal(Transfer, roots=wrong, error=UsageError) == "tls_root"


def test_proxy_that_makes_no_sense_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    source = Transfer(Steps().patience())
    assert refusal(source.get, "https://pccs.invalid/", error=UsageError) == "environment"
