"""dstack 563, 608, 609, 614; trustee's sample keys: evidence of a simulator, or under a published
key, passed for real.

Lesson: "intel" is one public key, compiled in.  No option, no policy, no name and no mixture of
roots turns simulated evidence into exit 0.
"""

from __future__ import annotations

import itertools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.result import AttestationResult, Verdict
from attestation.tdx.anchor import INTEL_ANCHOR, Anchor
from tests.support.bundles import Gateway

GATEWAY = Gateway()
GATEWAY.plain(nonce="5d0a5d0a5d0a5d0a")
GATEWAY.anchored()
POLICIES = {
    "none": None,
    "strict": GATEWAY.policy(log=""),
    "without anchoring": GATEWAY.policy(),
    "lenient": GATEWAY.policy(
        tdx='unbound_keys = "allow"\nmax_key_events = 1000\n'
        'attributes = { value = "0x10000000", mask = "0x10000000" }\n'
        'tcb_status = ["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded"]'
    ),
    "everything required": GATEWAY.policy(more='[require]\nchecks = ["NONCE", "REQUEST-BODY"]'),
}


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_and_no_choice_of_roots_accepts_simulated_evidence(name: str) -> None:
    verdicts = set()
    roots = (GATEWAY.anchor, INTEL_ANCHOR)
    for count in (1, 2):
        for anchors in itertools.permutations(roots, count):
            result = GATEWAY.verify(policy=POLICIES[name], anchors=anchors)
            verdicts.add(result.verdict)
            assert "intel" not in result.trust_domains
    assert Verdict.ACCEPTED not in verdicts
    assert Verdict.REJECTED in verdicts


def root_named(subject: x509.Name) -> Anchor:
    key = ec.generate_private_key(ec.SECP256R1())
    intel = INTEL_ANCHOR.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(intel.serial_number)
        .not_valid_before(intel.not_valid_before_utc)
        .not_valid_after(intel.not_valid_after_utc)
    )
    for extension in intel.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    certificate = builder.sign(key, hashes.SHA256())
    return Anchor(certificate.public_bytes(serialization.Encoding.DER))


def test_root_that_has_everything_of_intels_but_the_key_is_simulated() -> None:
    forged = root_named(INTEL_ANCHOR.certificate.subject)
    assert forged.certificate.subject == INTEL_ANCHOR.certificate.subject
    assert forged.certificate.serial_number == INTEL_ANCHOR.certificate.serial_number
    assert forged.trust_domain == "simulated"
    assert INTEL_ANCHOR.trust_domain == "intel"


def test_result_that_rests_on_both_domains_or_none_is_not_accepted() -> None:
    passed = GATEWAY.verify()
    assert passed.verdict is Verdict.SIMULATED
    for domains, verdict in (
        ({"simulated"}, Verdict.SIMULATED),
        ({"intel", "simulated"}, Verdict.SIMULATED),
        (set(), Verdict.INCOMPLETE),
        ({"intel"}, Verdict.ACCEPTED),
    ):
        result = AttestationResult(
            checks=passed.checks,
            at=passed.at,
            policy_digest=None,
            trust_domains=frozenset(domains),
            not_proved=(),
        )
        assert result.verdict is verdict


def test_report_on_simulated_evidence_says_so_first() -> None:
    assert "SIMULATED" in GATEWAY.verify().not_proved[0]
