"""TDX quotes, versions 4 and 5: the bytes, their one canonical form, nothing about their truth.

Layout: Intel TDX DCAP Quoting Library API, appendix A.3 (version 4) and A.4 (version 5).
Only the signed region is protected by the attestation key; what follows it is evidence about
that key and can be written in many ways, so a quote is named by the digest of its signed
region and travels in canonical form.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.body import SIZE_10, SIZE_15, TdReport, parse_report
from attestation.tdx.chain import encode_pem, parse_certificate, split_pem
from attestation.tdx.cursor import Cursor
from attestation.tdx.ecdsa import low_s
from attestation.tdx.pck import PckExtension, parse_pck_extension

if TYPE_CHECKING:
    from attestation.tdx.anchor import Anchor

MAX_QUOTE_BYTES = 16 * 1024
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
ECDSA_P256 = 2
TEE_TDX = 0x81
QE_REPORT_CERTIFICATION = 6
PCK_CHAIN = 5

_HEADER = struct.Struct("<HHIHH16s20s")
_BODY_DESCRIPTOR = struct.Struct("<HI")
_BODY_SIZES = {2: SIZE_10, 3: SIZE_15}
_LENGTH = struct.Struct("<I")
_SIGNATURE = struct.Struct("<64s64sHI")
_QE_REPORT = struct.Struct("<384s64sH")
_CERTIFICATION = struct.Struct("<HI")


@dataclass(frozen=True, slots=True, kw_only=True)
class QeReport:
    """The quoting enclave's own SGX report (384 bytes) and the PCK key's signature over it."""

    raw: bytes
    signature: bytes
    auth_data: bytes

    @property
    def isv_svn(self) -> int:
        """ISVSVN of the quoting enclave."""
        return int.from_bytes(self.raw[258:260], "little")

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that must begin with SHA-256(attestation key, authentication data)."""
        return self.raw[320:384]

    def binds(self, attestation_key: bytes) -> bool:
        """Say whether this report vouches for `attestation_key` (64 bytes, x then y)."""
        expected = hashlib.sha256(attestation_key + self.auth_data).digest()
        return self.report_data == expected + bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One parsed quote; its existence proves the layout, not one signature.

    `raw` is the exact bytes without the `padding` zero bytes that followed them.  `signature`
    (r then s) and `attestation_key` (x then y) are 64 bytes each.  `pck` is None where the
    quote carries no readable PCK certificate; such a quote never verifies.
    """

    version: int
    raw: bytes
    padding: int
    signed_region: bytes
    user_data: bytes
    body: TdReport
    signature: bytes
    attestation_key: bytes
    outer_type: int
    qe: QeReport
    inner_type: int
    certification_data: bytes
    pck: PckExtension | None

    @property
    def digest(self) -> Digest:
        """The name of this quote: SHA-256 of the signed region."""
        return Digest.of(self.signed_region)

    @property
    def debug(self) -> bool:
        """Whether the trust domain runs in debug mode."""
        return self.body.debug

    @property
    def sept_ve_disable(self) -> bool:
        """Whether SEPT_VE_DISABLE is set."""
        return self.body.sept_ve_disable

    @property
    def migratable(self) -> bool:
        """Whether the trust domain may migrate."""
        return self.body.migratable

    @property
    def cert_chain_pem(self) -> bytes:
        """The PCK chain as the quote carries it; empty if it carries none."""
        return self.certification_data if self.inner_type == PCK_CHAIN else b""

    def chain(self) -> tuple[bytes, ...]:
        """Return the DER certificates of the PCK chain, leaf first, or raise `MalformedError`."""
        return split_pem(self.cert_chain_pem, what="the PCK certificate chain in the quote")


def parse_quote(data: bytes) -> Quote:
    """Parse a version 4 or 5 TDX quote of at most 16 KiB.

    1. header: version, ECDSA P-256, TDX, Intel's QE vendor id
    2. TD report 1.0 or 1.5
    3. signature, attestation key, certification data; each length covers exactly its contents
    4. nothing after the quote but zero bytes, which are removed
    5. the PCK certificate's SGX extension, where a certificate is embedded and readable

    The outer certification type is recorded, not judged: see `require_canonical_quote`.
    Raises `MalformedError`.
    """
    if len(data) > MAX_QUOTE_BYTES:
        raise _malformed("is too large", f"at most {MAX_QUOTE_BYTES} bytes", f"{len(data)} bytes")
    cursor = Cursor(data, what="the quote", code="quote")
    version, user_data = _header(cursor)
    body = parse_report(cursor.take(_body_size(cursor, version)))
    signed_end = cursor.position
    (size,) = cursor.unpack(_LENGTH)
    quote_end = cursor.position + size
    signature, key, outer_type, outer_size = cursor.unpack(_SIGNATURE)
    _require_end(cursor, outer_size, quote_end)
    qe = _qe_report(cursor)
    inner_type, inner_size = cursor.unpack(_CERTIFICATION)
    _require_end(cursor, inner_size, quote_end)
    certification_data = cursor.take(inner_size)
    if cursor.rest().strip(b"\x00"):
        raise _malformed("has bytes after its end", "only zero padding", "other bytes")
    return Quote(
        version=version,
        raw=data[:quote_end],
        padding=len(data) - quote_end,
        signed_region=data[:signed_end],
        user_data=user_data,
        body=body,
        signature=signature,
        attestation_key=key,
        outer_type=outer_type,
        qe=qe,
        inner_type=inner_type,
        certification_data=certification_data,
        pck=_pck_extension(inner_type, certification_data),
    )


def canonical_quote(data: bytes) -> bytes:
    """Return the canonical form of a quote: the same claims and signatures, one way of writing.

    Outer certification type 6, the low form of the two signatures made on the platform,
    canonical PEM, exact lengths, no padding.  The digest of the quote is unchanged, and so are
    the certificates: they are Intel's.  Raises `MalformedError`, also for a quote without a PCK
    chain.
    """
    return _canonical_form(parse_quote(data))


def require_canonical_quote(quote: Quote, anchor: Anchor) -> None:
    """Refuse a quote that is not in canonical form, or whose embedded root is not `anchor`.

    Raises `MalformedError` (code "not_canonical") or `EvidenceError` (code "root").
    """
    if quote.padding or _canonical_form(quote) != quote.raw:
        raise MalformedError(
            "the quote is not in canonical form",
            code="not_canonical",
            expected="outer certification type 6, low signatures, canonical PEM, no padding",
            hint="a bundle carries the canonical form: `attested quote` reads raw ones",
        )
    chain = quote.chain()
    if len(chain) != 3 or chain[2] != anchor.root_der:
        raise EvidenceError(
            "the quote does not embed the root certificate that was asked for",
            code="root",
            expected=f"three certificates, the last of them {anchor.title}",
            observed=f"another chain, of {len(chain)}",
        )


def _canonical_form(quote: Quote) -> bytes:
    pem = encode_pem(quote.chain())
    inner = _CERTIFICATION.pack(PCK_CHAIN, len(pem)) + pem
    qe = _QE_REPORT.pack(quote.qe.raw, low_s(quote.qe.signature), len(quote.qe.auth_data))
    outer = qe + quote.qe.auth_data + inner
    signature = _SIGNATURE.pack(
        low_s(quote.signature), quote.attestation_key, QE_REPORT_CERTIFICATION, len(outer)
    )
    tail = signature + outer
    return quote.signed_region + _LENGTH.pack(len(tail)) + tail


def _header(cursor: Cursor) -> tuple[int, bytes]:
    version, key_type, tee, _, _, vendor, user_data = cursor.unpack(_HEADER)
    if version not in (4, 5):
        raise _malformed("has an unknown version", "4 or 5", str(version))
    if tee != TEE_TDX:
        raise _malformed("is not from TDX", f"TEE type {TEE_TDX:#x}", f"{tee:#x}")
    if key_type != ECDSA_P256:
        raise _malformed("has another kind of key", f"key type {ECDSA_P256}", str(key_type))
    if vendor != INTEL_QE_VENDOR:
        raise _malformed("is from another vendor", INTEL_QE_VENDOR.hex(), vendor.hex())
    return version, user_data


def _body_size(cursor: Cursor, version: int) -> int:
    if version == 4:
        return SIZE_10
    kind, stated = cursor.unpack(_BODY_DESCRIPTOR)
    if stated != _BODY_SIZES.get(kind):
        raise _malformed(
            "has an unknown body",
            "type 2 with 584 bytes or type 3 with 648 bytes",
            f"type {kind} with {stated} bytes",
        )
    return int(stated)


def _qe_report(cursor: Cursor) -> QeReport:
    raw, signature, auth_size = cursor.unpack(_QE_REPORT)
    return QeReport(raw=raw, signature=signature, auth_data=cursor.take(auth_size))


def _pck_extension(inner_type: int, certification_data: bytes) -> PckExtension | None:
    if inner_type != PCK_CHAIN:
        return None
    try:
        leaf = split_pem(certification_data, what="the PCK chain")[0]
        return parse_pck_extension(parse_certificate(leaf, what="the PCK certificate"))
    except MalformedError:
        # Not an error of the layout: what else the quote says can still be shown.
        return None


def _require_end(cursor: Cursor, size: int, end: int) -> None:
    if cursor.position + size != end:
        raise _malformed(
            "has lengths that contradict each other",
            f"contents that end at byte {end}",
            f"contents that end at byte {cursor.position + size}",
        )


def _malformed(fault: str, expected: str, observed: str) -> MalformedError:
    return MalformedError(f"the quote {fault}", code="quote", expected=expected, observed=observed)
