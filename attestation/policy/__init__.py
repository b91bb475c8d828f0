"""Appraisal policies: what a relying party is willing to accept, in strict TOML."""

from attestation.policy.model import (
    NO_POLICY,
    SGX_TYPES,
    AdvisoryRule,
    AttributeRule,
    ListedMachine,
    PlatformRules,
    Policy,
    ReferenceValues,
    RequiredEvent,
    SignedBy,
    StatusRule,
    TdxRules,
)
from attestation.policy.parse import SCHEMA, parse_policy
from attestation.policy.signature import read_signed_policy

__all__ = [
    "NO_POLICY",
    "SCHEMA",
    "SGX_TYPES",
    "AdvisoryRule",
    "AttributeRule",
    "ListedMachine",
    "PlatformRules",
    "Policy",
    "ReferenceValues",
    "RequiredEvent",
    "SignedBy",
    "StatusRule",
    "TdxRules",
    "parse_policy",
    "read_signed_policy",
]
