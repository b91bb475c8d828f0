"""The demo's case file: its bundle, its tampered copies, and what has to come of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attestation.policy.cases import SCHEMA
from attestation.policy.toml import toml_comment, toml_pair
from attestation.result import Verdict
from gateway.client.export import BODIES_NAME, BUNDLE_NAME
from gateway.demo.folder import ANSWER_NAME, POLICY_NAME, TAMPERED_NAME

if TYPE_CHECKING:
    from gateway.demo.story import Story, Tampering

_FAILING = {
    ANSWER_NAME: ["RESPONSE-BODY"],
    "receipt.json": ["RECEIPT-SIGNATURE", "LOG-INCLUSION"],
    "proof.json": ["LOG-INCLUSION"],
    "epoch-quote.json": ["QUOTE-GENUINE", "EPOCH-QUOTE"],
    "quote.json": ["QUOTE-GENUINE", "EPOCH-QUOTE", "RECEIPT-BINDING"],
}
"""The checks that a changed byte has to fail, by the name of the tampered file."""


def case_file(story: Story) -> str:
    """Return the text of a case file for `attested policy test`, to lie in the demo's folder.

    What is expected is written here, not taken from what the verifier said.
    """
    untouched = {"name": "the untouched bundle", "bundle": BUNDLE_NAME}
    cases = [
        _case(story, untouched, story.grounds.expected),
        *(_tampered(story, one) for one in story.tamperings),
    ]
    head = [
        toml_comment("What the policy has to come to, at the time these files were made."),
        toml_comment("`attested policy test` on this file verifies them all."),
        toml_pair("schema", SCHEMA),
        toml_pair("policy", POLICY_NAME),
    ]
    tables = [
        ["", "[[cases]]", *(toml_pair(key, value) for key, value in case.items())] for case in cases
    ]
    return "\n".join([*head, *(line for table in tables for line in table), ""])


def _tampered(story: Story, one: Tampering) -> dict[str, Any]:
    evidence: dict[str, Any] = {"name": one.change}
    if one.file == ANSWER_NAME:
        jti = story.calls[0].receipt_id or ""
        evidence |= {
            "bundle": BUNDLE_NAME,
            "receipt": jti,
            "request": f"{BODIES_NAME}/{jti}.request",
            "response": f"{TAMPERED_NAME}/{one.file}",
        }
    else:
        evidence |= {"bundle": f"{TAMPERED_NAME}/{one.file}"}
    return _case(story, evidence, Verdict.REJECTED) | {"failing": _FAILING[one.file]}


def _case(story: Story, evidence: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    roots = {"roots": list(story.grounds.roots)} if story.grounds.roots else {}
    return evidence | roots | {"at": story.audit.at, "verdict": str(verdict)}
