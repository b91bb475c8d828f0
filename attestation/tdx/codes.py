"""Stable codes for what dcap-qvl says in prose.

The library reports every refusal as text.  The table below turns the texts of version 0.7
into codes; a text it does not know is "other", which is a refusal like any other.
"""

from __future__ import annotations

import datetime as dt
import re

from attestation.errors import EvidenceError

# Refusals of evidence that is genuine in itself: a policy matter, or a matter of time.
POLICY_CODES = frozenset(
    {
        "expired",
        "not_yet_valid",
        "no_tcb_level",
        "debug",
        "sept_ve",
        "service_td",
        "migratable",
        "reserved_bits",
    }
)

# The first pattern that is found anywhere in the text decides.
# The quoting enclave comes first: its report can be in debug mode too, which is no policy matter.
_TABLE: tuple[tuple[str, str], ...] = (
    (r"Invalid QE auth data length|QE report validation failed|QE report hash mismatch", "qe"),
    (r"QE (ISVSVN|MRSIGNER|ISVPRODID|MISCSELECT|ATTRIBUTES) ", "qe"),
    (r"CertRevoked|status is invalid: Revoked", "revoked"),
    (r"CertNotValidYet|issue date is in the future", "not_yet_valid"),
    (
        r"CrlExpired|CertExpired|TCBInfo expired|QE Identity expired|[Cc]ollateral expired",
        "expired",
    ),
    (r"(certificate|revocation list) expired", "expired"),
    (r"Debug mode is enabled", "debug"),
    (r"SEPT_VE_DISABLE is not enabled", "sept_ve"),
    (r"Invalid MR service TD|SERVTD_EXT is enabled", "service_td"),
    (r"TD migration is enabled", "migratable"),
    (r"Reserved bits in TD attributes|TD profiling is enabled", "reserved_bits"),
    (r"Unrecognized TCB status", "malformed"),
    (r"TDX module (MRSIGNER|SEAMATTRIBUTES) mismatch", "module"),
    (r"No matching TCB level|No TCB levels|TDX module TCB level check", "no_tcb_level"),
    (r"Fmspc mismatch", "fmspc"),
    (r"UnknownIssuer|InvalidCrlSignatureForPublicKey|Failed to (load|parse) root ca\b", "root"),
    (r"[Ss]ignature is invalid|InvalidSignatureForPublicKey", "signature"),
    (
        r"Failed to (decode|parse|get|extract|find|create)|[Uu]nsupported|Unknown QE vendor",
        "malformed",
    ),
    (
        r"Malformed|BadDer|too short|should be valid JSON|must be valid hex|mismatch: expected",
        "malformed",
    ),
    (r"Empty (PCK )?certificate chain|Invalid (TEE type|body size|key length)", "malformed"),
    (r"non-TDX TCB info|missing tdxModule", "malformed"),
)
_PATTERNS = tuple((re.compile(pattern), code) for pattern, code in _TABLE)

_PREFIX = "Verification failed: "
_MAX_TEXT = 400
# Up to ten digits: any such number is within the years that dates can write.
_UNIX_TIME = re.compile(r"UnixTime\((\d{1,10})\)", re.ASCII)
# What the library writes in its debug form about dates, in words.
_DATED = (
    (
        re.compile(r"CrlExpired \{ time: (\S+), next_update: (\S+) \}"),
        r"a revocation list that held until \2, asked for at \1",
    ),
    (
        re.compile(r"CertExpired \{ time: (\S+), not_after: (\S+) \}"),
        r"a certificate that held until \2, asked for at \1",
    ),
    (
        re.compile(r"CertNotValidYet \{ time: (\S+), not_before: (\S+) \}"),
        r"a certificate that holds from \2, asked for at \1",
    ),
)


def classify(text: str) -> str:
    """Return the stable code of a refusal text; "other" for a text that is not known."""
    for pattern, code in _PATTERNS:
        if pattern.search(text):
            return code
    return "other"


def refusal(text: str) -> EvidenceError:
    """Turn a refusal text of dcap-qvl into an error with its stable code."""
    plain = " ".join(text.removeprefix(_PREFIX).split())[:_MAX_TEXT]
    plain = _UNIX_TIME.sub(_as_date, plain)
    for pattern, words in _DATED:
        plain = pattern.sub(words, plain)
    code = classify(text)
    return EvidenceError(
        "the quote does not verify", code=code, observed=plain, hint=_HINTS.get(code, "")
    )


def _as_date(found: re.Match[str]) -> str:
    """Write a time of the library's debug output as people write it."""
    moment = dt.datetime.fromtimestamp(int(found[1]), dt.UTC)
    return moment.isoformat().replace("+00:00", "Z")


_HINTS = {
    "expired": "verify at the time the evidence was held, or fetch current collateral",
    "not_yet_valid": "the time asked for is before the collateral was issued",
    "no_tcb_level": "update the platform's firmware, microcode and TDX module",
    "debug": "a debug domain's memory is open to the host: no policy should accept it",
    "sept_ve": "configure the guest with SEPT_VE_DISABLE",
    "service_td": "start the domain without one: a service domain can move it to another platform",
    "migratable": "start the domain without MIGRATABLE: no policy can accept it",
    "reserved_bits": "start the domain with the attributes that were reviewed; a newer version of "
    "this verifier may know the bits",
    "fmspc": "these endorsements are for another kind of platform: bring those of the quote's own",
    "root": "the evidence hangs under another root than the one asked for",
}
