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
    if (tcb["id"], tcb["version"], qe["id"], qe["version"]) != ("TDX", 3, "TD_QE", 2):
        opinion.refusals.add("malformed")
    enclave = _quoting_enclave(opinion, quote, qe)
    _module(opinion, body, tcb)
    _evaluate(opinion, (platform, body[:16], enclave), tcb)
    if quote[0] == 5 and quote[48] == 3:
        now = Opinion()
        _evaluate(now, (platform, body[584:600], enclave), tcb)
        _relaunch(opinion, now)
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


def _module(opinion: Opinion, body: bytes, tcb: dict[str, Any]) -> None:
    """A module of version 0 is the one TCB info describes; others have an entry of their own."""
    modules = _identities(tcb, body[1]) if body[1] else [tcb["tdxModule"]]
    for module in modules[:1]:
        signer, attributes = body[64:112], _masked(body[112:120], module["attributesMask"])
        if (signer.hex(), attributes.hex()) != (
            module["mrsigner"].lower(),
            module["attributes"].lower(),
        ):
            opinion.refusals.add("module")


def _evaluate(
    opinion: Opinion,
    parts: tuple[dict[str, Any], bytes, dict[str, Any]],
    tcb: dict[str, Any],
) -> None:
    """Section 4.1.2.5.2 of Intel's algorithm: the levels of platform, module and enclave."""
    platform, svn, enclave = parts
    first = 2 if svn[1] else 0
    reached = [
        level
        for level in tcb["tcbLevels"]
        if platform["pcesvn"] >= level["tcb"]["pcesvn"]
        and _reaches(platform["svns"], level["tcb"]["sgxtcbcomponents"], 0)
        and _reaches(svn, level["tcb"]["tdxtcbcomponents"], first)
    ]
    modules = [level for one in _identities(tcb, svn[1])[:1] for level in one["tcbLevels"]]
    loaded = [level for level in modules if level["tcb"]["isvsvn"] <= svn[0]]
    if not reached or (svn[1] and not loaded):
        opinion.refusals.add("no_tcb_level")
        return
    for level in (reached[0], loaded[0] if svn[1] else {}, enclave):
        if level:
            _take(opinion, level)


def _reaches(have: bytes | list[int], wanted: list[dict[str, int]], first: int) -> bool:
    return all(have[i] >= wanted[i]["svn"] for i in range(first, 16))


def _identities(tcb: dict[str, Any], version: int) -> list[dict[str, Any]]:
    listed = tcb.get("tdxModuleIdentities", ())
    return [one for one in listed if one["id"].upper() == f"TDX_{version:02X}"]


def _relaunch(launch: Opinion, now: Opinion) -> None:
    """Section 4.1.2.5.1.20: out of date at launch, in order since (TEE_TCB_SVN2)."""
    launch.refusals |= now.refusals
    fine = ("UpToDate", "SWHardeningNeeded")
    needed = ("ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded")
    if launch.status in ("OutOfDate", "OutOfDateConfigurationNeeded") and (
        now.status in fine + needed
    ):
        configure = now.status in needed or "Configuration" in launch.status
        launch.status = "TDRelaunchAdvised" + "ConfigurationNeeded" * configure


def _quoting_enclave(opinion: Opinion, quote: bytes, qe: dict[str, Any]) -> dict[str, Any]:
    """The level of the quoting enclave; empty if it is none that Intel names."""
    end = 632 if quote[0] == 4 else 54 + int.from_bytes(quote[50:54], "little")
    report = quote[end + 138 : end + 522]
    masked = _masked(report[48:64], qe["attributesMask"])
    same = (
        report[128:160].hex() == qe["mrsigner"].lower()
        and int.from_bytes(report[256:258], "little") == qe["isvprodid"]
        and _masked(report[16:20], qe["miscselectMask"]) == bytes.fromhex(qe["miscselect"])
        and masked == bytes.fromhex(qe["attributes"])
    )
    svn = int.from_bytes(report[258:260], "little")
    levels = [level for level in qe["tcbLevels"] if level["tcb"]["isvsvn"] <= svn]
    auth_size = int.from_bytes(quote[end + 586 : end + 588], "little")
    if not same or not levels or auth_size != 32:
        opinion.refusals.add("qe")
        return {}
    level: dict[str, Any] = levels[0]
    return level


def _masked(data: bytes, mask: str) -> bytes:
    return bytes(have & m for have, m in zip(data, bytes.fromhex(mask), strict=True))


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
