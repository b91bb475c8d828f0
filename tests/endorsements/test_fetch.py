"""Fetching from a service that is honest, faulty or hostile; nothing unverified is stored."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization

from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
    UnavailableError,
    UsageError,
)
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.collateral import Collateral, parse_dcap_collateral
from attestation.tdx.endorsements import parse_endorsements
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.facts import DAY, Endorsements, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.cli.main import main
from gateway.edge.tls import BootTls
from gateway.endorsements.service import Service, Wanted, fetch_endorsements, parse_service
from gateway.endorsements.transfer import Patience, Transfer, require_secure
from tests import vectors_path
from tests.endorsements import pcs
from tests.endorsements.pcs import PCK_CRL, QE, ROOT_CRL, TCB, PcsDouble, serving
from tests.refusals import refusal

NOW = 1_790_000_000
PLATFORM = SimulatedPlatform(now=NOW, seed=b"fetched")
GOOD = PLATFORM.collateral()
FMSPC = parse_endorsements(GOOD).fmspc
WANTED = Wanted(fmspc=FMSPC, ca="platform")


class Steps:
    """A clock that only moves while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def patience(self, seconds: float = 60.0) -> Patience:
        return Patience(seconds=seconds, monotonic=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def double() -> Iterator[PcsDouble]:
    with serving(GOOD) as running:
        yield running


def fetch(
    double: PcsDouble, *, steps: Steps | None = None, service: Service | None = None, **changes: Any
) -> Collateral:
    return fetch_endorsements(
        service or double.pcs,
        dataclasses.replace(WANTED, **changes),
        Transfer((steps or Steps()).patience()),
        PLATFORM.anchor,
        NOW,
    ).collateral


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
        thread.join(10)


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


MALFORMED: list[tuple[str, Any]] = [
    (TCB, pcs.body(b"")),
    (TCB, pcs.body(b"[]")),
    (TCB, pcs.body(b"<html>busy</html>")),
    (TCB, pcs.edited(lambda data: data.replace(b'"signature"', b'"Signature"'))),
    (TCB, pcs.edited(lambda data: data.replace(b'"tcbInfo"', b'"enclaveIdentity"'))),
    (TCB, pcs.edited(lambda data: data.replace(b'{"tcbInfo":', b'{"tcbInfo":1,"tcbInfo":'))),
    (TCB, pcs.edited(lambda data: data[:-3] + b'"}')),
    (TCB, pcs.edited(lambda data: data[:-2] + b'",\x00}')),
    (TCB, pcs.edited(lambda data: data[:-1] + b',"more":1}')),
    (TCB, pcs.body(b'{"tcbInfo":"{}","signature":"' + b"00" * 64 + b'"}')),
    (QE, pcs.body(b'{"enclaveIdentity":{},"signature":"' + b"00" * 64 + b'"}')),
    (QE, pcs.without_headers),
    (TCB, pcs.without_headers),
    (PCK_CRL, pcs.without_headers),
    (PCK_CRL, pcs.header("SGX-PCK-CRL-Issuer-Chain", "")),
    (PCK_CRL, pcs.header("SGX-PCK-CRL-Issuer-Chain", "%00%ff")),
    (PCK_CRL, pcs.header("SGX-PCK-CRL-Issuer-Chain", "A" * 40_000)),
    (PCK_CRL, pcs.body(b"-----BEGIN X509 CRL-----\n")),
    (PCK_CRL, pcs.edited(lambda data: data[:-9])),
    (PCK_CRL, pcs.body(b"30")),
    (PCK_CRL, pcs.body(b"ff" * 40)),
    (ROOT_CRL, pcs.body(b"")),
    (ROOT_CRL, pcs.body(b"Not Found")),
]


@pytest.mark.parametrize(("document", "fault"), MALFORMED)
def test_answer_that_is_none_is_malformed(double: PcsDouble, document: str, fault: Any) -> None:
    double.fail(document, fault)
    assert refusal(fetch, double, error=MalformedError)


def other_fmspc() -> Collateral:
    return SimulatedPlatform(
        now=NOW,
        seed=b"fetched",
        machine=Machine(fmspc=b"\xff" * 6),
        endorsements=Endorsements(fmspc=b"\xff" * 6),
    ).collateral()


def swapped(name: str, other: Collateral, document: str) -> pcs.Fault:
    chain = pcs.honest(other, document, hexadecimal=False).headers
    return lambda reply: dataclasses.replace(reply, headers={name: next(iter(chain.values()))})


STRANGER = SimulatedPlatform(now=NOW, seed=b"stranger").collateral()
REFUSED: list[tuple[str, Any, set[str]]] = [
    # The answer for another platform, rightly signed.
    (TCB, lambda _: pcs.honest(other_fmspc(), TCB, hexadecimal=False), {"fmspc"}),
    # One byte of a signed text.
    (TCB, pcs.edited(lambda data: data.replace(b'"tcbType":0', b'"tcbType":1')), {"signature"}),
    (QE, pcs.edited(lambda data: data.replace(b'"isvprodid":2', b'"isvprodid":3')), {"signature"}),
    # The same value, written anew: that is not the text that was signed.
    (
        TCB,
        pcs.edited(lambda data: json.dumps(json.loads(data)).encode()),
        {"signature"},
    ),
    # Issuers of another text, of another root.
    (
        TCB,
        pcs.header("TCB-Info-Issuer-Chain", quote(GOOD.pck_crl_issuer_chain)),
        {"signature"},
    ),
    (
        PCK_CRL,
        pcs.header("SGX-PCK-CRL-Issuer-Chain", quote(GOOD.tcb_info_issuer_chain)),
        {"signature"},
    ),
    (TCB, swapped("TCB-Info-Issuer-Chain", STRANGER, TCB), {"root"}),
    (QE, lambda _: pcs.honest(STRANGER, QE, hexadecimal=False), {"root"}),
    (PCK_CRL, lambda _: pcs.honest(STRANGER, PCK_CRL, hexadecimal=False), {"root"}),
    (ROOT_CRL, lambda _: pcs.honest(STRANGER, ROOT_CRL, hexadecimal=False), {"signature"}),
    # The lists in each other's place.
    (ROOT_CRL, pcs.body(GOOD.pck_crl), {"signature"}),
]


@pytest.mark.parametrize(("document", "fault", "codes"), REFUSED)
def test_answer_that_does_not_verify_is_refused_and_not_stored(
    double: PcsDouble, tmp_path: Path, document: str, fault: Any, codes: set[str]
) -> None:
    double.fail(document, fault)
    assert refusal(fetch, double, error=EvidenceError) in codes
    assert run(double, tmp_path / "store") == 10
    assert not (tmp_path / "store").exists()


def test_revocation_list_of_the_other_authority_is_refused(double: PcsDouble) -> None:
    # The double has no such list; a service that ignores `ca` gives the one it has.
    double.fail(PCK_CRL, lambda _: pcs.honest(GOOD, PCK_CRL, hexadecimal=False))
    assert refusal(fetch, double, ca="processor", error=EvidenceError) == "fmspc"


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"tcb_expires": -1}, "expired"),
        ({"qe_expires": -1}, "expired"),
        ({"crl_expires": -1}, "expired"),
        ({"tcb_issued": 60}, "not_yet_valid"),
        ({"revoked": frozenset({"tcb_signing"})}, "revoked"),
    ],
)
def test_set_out_of_date_or_revoked_is_refused(facts: dict[str, Any], code: str) -> None:
    late = PLATFORM.but(endorsements=Endorsements(**facts)).collateral()
    with serving(late) as double:
        assert refusal(fetch, double, error=EvidenceError) == code


def test_simulated_set_is_refused_where_intels_root_is_asked_for(double: PcsDouble) -> None:
    source = Transfer(Steps().patience())
    with pytest.raises(AttestationError) as caught:
        fetch_endorsements(double.pcs, WANTED, source, INTEL_ANCHOR, NOW)
    assert caught.value.code == "root"


# -- the command ---------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(PLATFORM.anchor.certificate.public_bytes(serialization.Encoding.PEM))
    return path


def run(double: PcsDouble, store: Path, *arguments: str) -> int:
    root = store.parent / "root.pem"
    root.write_bytes(PLATFORM.anchor.certificate.public_bytes(serialization.Encoding.PEM))
    which = arguments or ("--fmspc", FMSPC.upper(), "--ca", "platform")
    base = ["--from", double.url, "--store", str(store), "--at", str(NOW), "--timeout", "5"]
    return main(["endorsements", "fetch", *base, "--root", str(root), *which])


def stored(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir())


def test_fetched_set_is_stored_by_its_digest_and_only_once(
    double: PcsDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert run(double, store) == 0
    assert stored(store) == [f"{GOOD.digest.hex}.json"]
    assert parse_dcap_collateral((store / stored(store)[0]).read_bytes()) == GOOD
    before = (store / stored(store)[0]).stat()
    assert run(double, store) == 0
    assert "unchanged" in capsys.readouterr().out
    after = (store / stored(store)[0]).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_older_set_than_a_stored_one_is_stored_and_reported(
    double: PcsDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    facts = Endorsements(evaluation_number=21, qe_evaluation_number=21)
    newer = PLATFORM.but(endorsements=facts).collateral()
    double.sets = {FMSPC.upper(): newer}
    assert run(double, store) == 0
    double.sets = {FMSPC.upper(): GOOD}
    assert run(double, store) == 0
    assert newer.digest.hex in capsys.readouterr().err
    assert len(stored(store)) == 2
    assert run(double, store, "--fmspc", FMSPC, "--ca", "platform", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)["sets"]
    assert (one["stored"], one["newer"]) == (False, [newer.digest.hex])


def test_platform_is_read_out_of_a_quote_and_out_of_a_bundle(
    double: PcsDouble, tmp_path: Path
) -> None:
    from tests.support.bundles import Gateway  # noqa: PLC0415 - slow to make

    raw = tmp_path / "quote.bin"
    raw.write_bytes(PLATFORM.quote(bytes(64)))
    assert run(double, tmp_path / "a", "--quote", str(raw)) == 0
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(Gateway().bundle().encode())
    assert run(double, tmp_path / "b", "--bundle", str(bundle)) == 0
    assert stored(tmp_path / "a") == stored(tmp_path / "b")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fmspc", "90c06f00000", "--ca", "platform"],
        ["--fmspc", "90c06f000000"],
        ["--fmspc", "90c06f000000", "--quote", "x"],
        ["--quote", "/absent"],
        ["--ca", "platform"],
        ["--fmspc", "90c06f000000", "--ca", "platform", "--timeout", "0"],
        ["--fmspc", "90c06f000000", "--ca", "platform", "--timeout", "3601"],
    ],
)
def test_question_that_makes_no_sense_asks_nobody(
    double: PcsDouble, tmp_path: Path, arguments: list[str]
) -> None:
    assert run(double, tmp_path / "store", *arguments) == 2
    assert double.asked == []


def test_quote_says_its_authority_itself(double: PcsDouble, tmp_path: Path) -> None:
    raw = tmp_path / "quote.bin"
    raw.write_bytes(PLATFORM.quote(bytes(64)))
    assert run(double, tmp_path / "s", "--quote", str(raw), "--ca", "processor") == 2
    raw.write_bytes(b"no quote")
    assert run(double, tmp_path / "s", "--quote", str(raw)) == 13


def test_bundle_without_quotes_has_no_platform(double: PcsDouble, tmp_path: Path) -> None:
    from attestation.bundle import Bundle  # noqa: PLC0415

    empty = tmp_path / "bundle.json"
    empty.write_bytes(Bundle().encode())
    assert run(double, tmp_path / "s", "--bundle", str(empty)) == 2


def test_store_that_cannot_be_made_is_unavailable(double: PcsDouble, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert run(double, file) == 14


def test_service_that_is_away_is_unavailable(double: PcsDouble, tmp_path: Path) -> None:
    double.fail(TCB, pcs.status(404))
    assert run(double, tmp_path / "store") == 14


def matching_quote(folder: Path, file: str) -> tuple[Path, int] | None:
    """A real quote that a real set was recorded to accept, and when."""
    for manifest in sorted(folder.glob("*/manifest.json")):
        for entry in json.loads(manifest.read_bytes())["entries"]:
            for case in entry.get("cases", []):
                if case["collateral"] == file and case["expect"] == "ok":
                    return manifest.parent / entry["file"], case["now_secs"]
    return None


def real_sets() -> list[str]:
    folder = vectors_path.find("tdx")
    if folder is None:
        return []
    entries = json.loads((folder / "_collateral" / "manifest.json").read_bytes())["entries"]
    return [entry["file"] for entry in entries]


@pytest.mark.parametrize("file", real_sets() or ["any"])
def test_set_that_intel_signed_is_stored_byte_for_byte_and_its_quote_accepted(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = vectors_path.need("tdx")
    real = parse_dcap_collateral((folder / file).read_bytes())
    one = parse_endorsements(real)
    raw, at = matching_quote(folder, file) or (None, one.whole.until)
    which = ["--quote", str(raw)] if raw else ["--fmspc", one.fmspc, "--ca", one.ca]
    store, out = tmp_path / "store", tmp_path / "set.json"
    with serving(real) as double:
        base = ["--from", double.url, "--store", str(store), "--at", str(at)]
        assert main(["endorsements", "fetch", *base, *which]) == 0
    assert stored(store) == [f"{real.digest.hex}.json"]
    assert main(["endorsements", "export", "--store", str(store), "-o", str(out)]) == 0
    theirs = json.loads((folder / file).read_bytes())
    ours = json.loads(out.read_bytes())
    assert {name: ours[name] for name in theirs} == theirs
    assert len(ours) == 9
    if raw is None:
        return
    capsys.readouterr()
    main(["quote", str(raw), "--collateral", str(out), "--at", str(at), "--json"])
    told = capsys.readouterr().out
    assert parse_quote(raw.read_bytes()).pck is not None
    assert '"QUOTE-GENUINE"' in told
    checks = json.loads(told)
    assert _genuine(checks) == "pass"


def _genuine(value: Any) -> str | None:
    if isinstance(value, dict):
        if value.get("id") == "QUOTE-GENUINE":
            return str(value["status"])
        value = list(value.values())
    if isinstance(value, list):
        return next((found for found in map(_genuine, value) if found), None)
    return None


def test_dates_of_the_platform_do_not_matter_to_a_fetch() -> None:
    # A platform whose own certificate has ended is a matter for who judges its quotes.
    ended = SimulatedPlatform(now=NOW, seed=b"fetched", machine=Machine(pck_not_after=-DAY // 2))
    with serving(ended.collateral()) as double:
        assert fetch(double) == ended.collateral()
