"""Results as JSON documents, for programs (docs/verifying.md lists every member)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from attestation.checks import CHECKS
from attestation.encoding.instants import instant
from attestation.result import worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.result import AttestationResult, Check

RESULT_SCHEMA = "attested-gateway/attestation-result/v1"
RESULTS_SCHEMA = "attested-gateway/attestation-results/v1"


def document(result: AttestationResult, *, name: str) -> dict[str, Any]:
    """Return everything `result` says, as plain JSON values; `name` is what was verified."""
    return {
        "schema": RESULT_SCHEMA,
        "file": name,
        "verdict": str(result.verdict),
        "exit_code": result.exit_code,
        "at": result.at,
        "at_utc": instant(result.at),
        "policy_digest": result.policy_digest.hex if result.policy_digest else None,
        "policy_version": result.policy_version,
        "policy_signers": list(result.policy_signers) or None,
        "now": None if result.now is None else _now(result, result.now),
        "trust_domains": sorted(result.trust_domains),
        "checks": [_check(check) for check in result.checks],
        "not_proved": list(result.not_proved),
        "facts": result.facts,
    }


def documents(results: Sequence[tuple[str, AttestationResult]]) -> dict[str, Any]:
    """Return one document for one file; for several, the worst verdict and one for each."""
    if len(results) == 1:
        name, result = results[0]
        return document(result, name=name)
    verdict = worst(result.verdict for _, result in results)
    return {
        "schema": RESULTS_SCHEMA,
        "verdict": str(verdict),
        "exit_code": verdict.exit_code,
        "results": [document(result, name=name) for name, result in results],
    }


def _now(stated: AttestationResult, now: AttestationResult) -> dict[str, Any]:
    return {
        "at": now.at,
        "at_utc": instant(now.at),
        "verdict": str(now.verdict),
        "checks": differing(stated, now),
    }


def differing(one: AttestationResult, other: AttestationResult) -> list[str]:
    """Return the ids of the checks that ended differently, each once."""
    counts = [
        Counter((check.id, check.subject, check.status, check.fault) for check in result.checks)
        for result in (one, other)
    ]
    differ = {id_ for id_, *_ in (counts[0] - counts[1]) + (counts[1] - counts[0])}
    return [id_ for id_ in CHECKS if id_ in differ]


def _check(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "title": check.title,
        "spec": check.spec,
        "subject": check.subject,
        "status": str(check.status),
        "required": check.required,
        "fault": str(check.fault) if check.fault else None,
        "expected": check.expected,
        "observed": check.observed,
        "reason": check.reason,
        "hint": check.hint,
    }
