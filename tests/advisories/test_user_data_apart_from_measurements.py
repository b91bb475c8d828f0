"""GHSA-r2h5-3hgw-8j34: user data was bound to the machine's key, but not to its measurements, so
that the two could come from different states of the machine.

Lesson: statement, registers and debug state count only out of one signed object.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.result import Verdict
from gateway.attester.simulated.facts import Domain
from tests.support.bundles import Gateway, failed
from tests.tamper.folders import gateway

GOOD = gateway("good")
EVIL = Gateway(seed="evil", platform=GOOD.machine.but(domain=Domain(mrtd=b"\x01" * 48)))
EVIL.plain()


def test_measurements_of_one_quote_do_not_vouch_for_the_statement_of_another() -> None:
    # Two genuine quotes of one machine: the good software's, and the evil one's with his keys.
    boot = replace(EVIL.evidence, quote=GOOD.evidence.quote)
    bundle = EVIL.bundle(boots=[boot])
    result = GOOD.verify(bundle=bundle, contents=EVIL.contents())
    assert result.verdict is Verdict.REJECTED
    assert {"BOOT-STATEMENT", "RECEIPT-BINDING"} <= failed(result)


def test_evil_software_by_itself_is_genuine_and_not_wanted() -> None:
    result = GOOD.verify(bundle=EVIL.bundle(), contents=EVIL.contents())
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"MEASUREMENTS"}


@pytest.mark.parametrize("offset", [568, 568 + 31, 568 + 32, 568 + 63])
def test_every_byte_of_the_user_data_counts(offset: int) -> None:
    data = bytearray(GOOD.evidence.statement.report_data)
    data[offset - 568] ^= 1
    record = GOOD.evidence.event_log
    assert record is not None
    digests = [event.digest for event in record.parse().events]
    boot = replace(GOOD.evidence, quote=GOOD.quote(bytes(data), digests))
    result = GOOD.verify(bundle=GOOD.bundle(boots=[boot]))
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"BOOT-STATEMENT", "RECEIPT-BINDING"}
