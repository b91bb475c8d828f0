"""Audit bundles: everything a verifier needs about some receipts, in one canonical file."""

from attestation.bundle.endorse import endorsements_for, with_endorsements
from attestation.bundle.extract import extract_receipt
from attestation.bundle.lone import parse_evidence
from attestation.bundle.merge import merge_bundles
from attestation.bundle.model import (
    MEDIA_TYPE,
    SCHEMA,
    BootEvidence,
    Bundle,
    BundledReceipt,
    EpochEvidence,
    EventLogRecord,
    make_bundle,
)
from attestation.bundle.parse import MAX_BUNDLE_BYTES, parse_bundle

__all__ = [
    "MAX_BUNDLE_BYTES",
    "MEDIA_TYPE",
    "SCHEMA",
    "BootEvidence",
    "Bundle",
    "BundledReceipt",
    "EpochEvidence",
    "EventLogRecord",
    "endorsements_for",
    "extract_receipt",
    "make_bundle",
    "merge_bundles",
    "parse_bundle",
    "parse_evidence",
    "with_endorsements",
]
