"""The verifier: one pipeline for the command line, the client, the demo and the gateway's tests."""

from attestation.verifier.challenge import (
    ChallengeEvidence,
    parse_challenge,
    verify_challenge,
)
from attestation.verifier.contents import BODY_CHECKS, Contents
from attestation.verifier.high_water import HighWater, parse_high_water
from attestation.verifier.pipeline import (
    malformed_result,
    verify,
    verify_boots,
    verify_raw_quote,
)

__all__ = [
    "BODY_CHECKS",
    "ChallengeEvidence",
    "Contents",
    "HighWater",
    "malformed_result",
    "parse_challenge",
    "parse_high_water",
    "verify",
    "verify_boots",
    "verify_challenge",
    "verify_raw_quote",
]
