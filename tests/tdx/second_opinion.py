"""Intel's appraisal of a quote, written a second time: from the specification, for the tests.

It shares nothing with the product or with dcap-qvl: offsets are typed in again, certificates
and CRLs are read with `cryptography`, JSON with the standard library.  It finds every reason
for a refusal rather than the first, and the TCB status and advisories where there is none.
Signatures are not its subject.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from attestation.tdx.collateral import Collateral

SGX_OID = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
SGX_ARCS = bytes.fromhex("2a864886f84d010d01")


@dataclass
class Opinion:
    refusals: set[str] = field(default_factory=set)
    status: str = ""
    advisories: set[str] = field(default_factory=set)


def appraise(quote: bytes, collateral: Collateral, at: int) -> Opinion:
    """The opinion on a quote whose signatures hold."""
    opinion = Opinion()
    body = quote[48:632] if quote[0] == 4 else quote[54:]
    attributes = int.from_bytes(body[120:128], "little")
    service = body[600:648] if quote[0] == 5 and quote[48] == 3 else bytes(48)
    _attributes(opinion, attributes, service)
    pem = quote[quote.index(b"-----BEGIN") :].rstrip(b"\0")
    chain = x509.load_pem_x509_certificates(pem)
    tcb, qe = json.loads(collateral.tcb_info), json.loads(collateral.qe_identity)
    _dates(opinion, chain, collateral, (tcb, qe), at)
    _revocation(opinion, chain, collateral)
    platform = _extension(chain[0])
    if tcb["fmspc"].lower() != platform["fmspc"] or tcb["pceId"].lower() != platform["pceid"]:
        opinion.refusals.add("fmspc")
    _tcb(opinion, platform, body, tcb)
    _quoting_enclave(opinion, quote, qe)
    if opinion.status == "Revoked":
        opinion.refusals.add("revoked")
    return opinion


def _attributes(opinion: Opinion, attributes: int, service: bytes) -> None:
    named = {0: "debug", 17: "service_td", 29: "migratable"}
    allowed = {16, 18, 19, 20, 21, 22, 27, 28, 30, 31, 62, 63}
    for bit in range(64):
        if attributes >> bit & 1 and bit not in allowed:
            opinion.refusals.add(named.get(bit, "reserved_bits"))
    if not attributes & 1 << 28:
        opinion.refusals.add("sept_ve")
    if any(service):
        opinion.refusals.add("service_td")


def _dates(
    opinion: Opinion,
    chain: list[x509.Certificate],
    collateral: Collateral,
    documents: tuple[dict[str, Any], ...],
    at: int,
) -> None:
    periods = [(_instant(one["issueDate"]), _instant(one["nextUpdate"])) for one in documents]
    chains = [collateral.tcb_info_issuer_chain, collateral.qe_identity_issuer_chain]
    signers = [x509.load_pem_x509_certificates(pem.encode())[0] for pem in chains]
    periods += [
        (int(one.not_valid_before_utc.timestamp()), int(one.not_valid_after_utc.timestamp()))
        for one in [*chain[:-1], *signers]
    ]
    for start, end in periods:
        if at < start:
            opinion.refusals.add("not_yet_valid")
        if at > end:
            opinion.refusals.add("expired")
    for crl in _crls(collateral):
        # The start of a revocation list is not checked: an earlier list would say no more.
        if crl.next_update_utc is None or at >= crl.next_update_utc.timestamp():
            opinion.refusals.add("expired")


def _revocation(opinion: Opinion, chain: list[x509.Certificate], collateral: Collateral) -> None:
    root_crl, pck_crl = _crls(collateral)
    signer = x509.load_pem_x509_certificates(collateral.tcb_info_issuer_chain.encode())[0]
    by_root = [chain[1], signer]
    if pck_crl.get_revoked_certificate_by_serial_number(chain[0].serial_number) or any(
        root_crl.get_revoked_certificate_by_serial_number(one.serial_number) for one in by_root
    ):
        opinion.refusals.add("revoked")


def _tcb(opinion: Opinion, platform: dict[str, Any], body: bytes, tcb: dict[str, Any]) -> None:
    svn = body[:16]
    first = 2 if svn[1] else 0
    for level in tcb["tcbLevels"]:
        wanted = level["tcb"]
        sgx = [component["svn"] for component in wanted["sgxtcbcomponents"]]
        tdx = [component["svn"] for component in wanted["tdxtcbcomponents"]]
        if (
            all(have >= want for have, want in zip(platform["svns"], sgx, strict=True))
            and platform["pcesvn"] >= wanted["pcesvn"]
            and all(svn[i] >= tdx[i] for i in range(first, 16))
        ):
            _take(opinion, level)
            break
    else:
        opinion.refusals.add("no_tcb_level")
        return
    module = tcb["tdxModule"]
    if svn[1]:
        identities = [
            one for one in tcb["tdxModuleIdentities"] if one["id"].upper() == f"TDX_{svn[1]:02X}"
        ]
        levels = [
            level
            for one in identities
            for level in one["tcbLevels"]
            if level["tcb"]["isvsvn"] <= svn[0]
        ]
        if not levels:
            opinion.refusals.add("no_tcb_level")
            return
        module = identities[0]
        _take(opinion, levels[0])
    mask = bytes.fromhex(module["attributesMask"])
    seam = bytes(have & m for have, m in zip(body[112:120], mask, strict=True))
    if body[64:112].hex() != module["mrsigner"].lower() or seam != bytes.fromhex(
        module["attributes"]
    ):
        opinion.refusals.add("module")


def _quoting_enclave(opinion: Opinion, quote: bytes, qe: dict[str, Any]) -> None:
    end = 632 if quote[0] == 4 else 54 + int.from_bytes(quote[50:54], "little")
    report = quote[end + 138 : end + 522]
    attributes, mask = report[48:64], bytes.fromhex(qe["attributesMask"])
    masked = bytes(have & m for have, m in zip(attributes, mask, strict=True))
    same = (
        report[128:160].hex() == qe["mrsigner"].lower()
        and int.from_bytes(report[256:258], "little") == qe["isvprodid"]
        and report[16:20].hex() == qe["miscselect"]
        and masked.hex() == qe["attributes"].lower()
    )
    svn = int.from_bytes(report[258:260], "little")
    levels = [level for level in qe["tcbLevels"] if level["tcb"]["isvsvn"] <= svn]
    auth_size = int.from_bytes(quote[end + 586 : end + 588], "little")
    if not same or not levels or auth_size != 32:
        opinion.refusals.add("qe")
        return
    _take(opinion, levels[0])


def _take(opinion: Opinion, level: dict[str, Any]) -> None:
    """Merge the status of one part; the first one is the platform's."""
    opinion.advisories |= set(level.get("advisoryIDs", ()))
    part = level["tcbStatus"]
    if not opinion.status or "Revoked" in (part, opinion.status):
        opinion.status = "Revoked" if opinion.status else part
    elif part == "OutOfDate" and opinion.status in ("UpToDate", "SWHardeningNeeded"):
        opinion.status = "OutOfDate"
    elif part == "OutOfDate" and opinion.status.startswith("Configuration"):
        opinion.status = "OutOfDateConfigurationNeeded"


def _extension(leaf: x509.Certificate) -> dict[str, Any]:
    data = leaf.extensions.get_extension_for_oid(SGX_OID).value.public_bytes()
    return {
        "fmspc": _value(data, 4).hex(),
        "pceid": _value(data, 3).hex(),
        "svns": [int.from_bytes(_value(data, 2, number), "big") for number in range(1, 17)],
        "pcesvn": int.from_bytes(_value(data, 2, 17), "big"),
    }


def _value(data: bytes, *arcs: int) -> bytes:
    """The contents of the value that follows an object identifier."""
    oid = SGX_ARCS + bytes(arcs)
    start = data.index(b"\x06" + bytes([len(oid)]) + oid) + 2 + len(oid)
    return data[start + 2 : start + 2 + data[start + 1]]


def _crls(collateral: Collateral) -> list[x509.CertificateRevocationList]:
    return [x509.load_der_x509_crl(one) for one in (collateral.root_ca_crl, collateral.pck_crl)]


def _instant(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp())
