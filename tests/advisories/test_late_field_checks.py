"""dcap-qvl commits 667390d (vendor of the quoting enclave), 79fe652 and 972c3f4 (MRSERVICETD),
2a5efcb (bytes after a JSON document): small checks that came years after release.

Lesson: the list of checks comes from the specification, not from memory; each has its own test.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.result import Verdict
from gateway.attester.simulated.facts import Domain, Writing
from gateway.attester.simulated.keys import sign_raw
from tests.support.bundles import Gateway, failed

HEALTHY = Gateway()
HEALTHY.plain()


def test_quote_of_another_vendors_enclave_is_refused() -> None:
    raw = bytearray(HEALTHY.evidence.quote)
    raw[12] ^= 1
    boot = replace(HEALTHY.evidence, quote=bytes(raw))
    result = HEALTHY.verify(bundle=HEALTHY.bundle(boots=[boot]))
    assert result.verdict is Verdict.MALFORMED
    assert failed(result) == {"QUOTE-FORMAT"}


def test_domain_that_a_service_domain_may_rule_is_refused() -> None:
    platform = HEALTHY.machine.but(
        domain=Domain(mr_service_td=b"\x01" + bytes(47)), writing=Writing(version=5)
    )
    made = Gateway(platform=platform)
    made.plain()
    result = made.verify(policy=HEALTHY.policy())
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"TD-ATTRIBUTES"}


@pytest.mark.parametrize("tail", [" ", "\n", "x", "{}", "\x00", ',"a":1}'])
@pytest.mark.parametrize("part", ["tcb_info", "qe_identity"])
def test_bytes_after_a_signed_document_are_refused_even_when_signed(part: str, tail: str) -> None:
    collateral = HEALTHY.machine.collateral()
    text = getattr(collateral, part) + tail
    key = HEALTHY.machine._pki.tcb_key
    changed = replace(collateral, **{part: text, f"{part}_signature": sign_raw(key, text.encode())})
    boot = replace(HEALTHY.evidence, collateral=changed.digest)
    result = HEALTHY.verify(bundle=HEALTHY.bundle(boots=[boot], collateral=[changed]))
    if tail.isspace():
        # White space is part of a JSON text (RFC 8259 section 2), and Intel's key signed it.
        assert result.verdict is Verdict.SIMULATED
    else:
        assert result.verdict is Verdict.REJECTED
        assert failed(result) == {"QUOTE-GENUINE"}
