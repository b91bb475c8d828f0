"""Every check the verifier knows: a stable id, a title, and where the rule is written.

The ids are part of the interface: policies name them, programs branch on them, results carry
them.  An id is never reused for another meaning.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec:
    """What one check is called and where its rule stands (`docs/spec/`)."""

    id: str
    title: str
    spec: str


_TABLE = (
    ("BUNDLE", "The file has its one well-formed form", "bundle.md#format"),
    ("QUOTE-FORMAT", "The quote parses and has its proper form", "bundle.md#quotes"),
    ("QUOTE-GENUINE", "The quote is signed by a certified platform", "policy.md#quotes"),
    ("COLLATERAL-FRESH", "The endorsements are in date", "policy.md#endorsements"),
    ("TCB-STATUS", "The platform's patch level is on the allow-list", "policy.md#tdx"),
    ("TCB-ADVISORIES", "No security advisory is open but those allowed", "policy.md#tdx"),
    ("TD-ATTRIBUTES", "The trust domain runs without debug or unusual features", "policy.md#tdx"),
    ("TDX-MODULE", "The TDX module is Intel's and on the list", "policy.md#tdx"),
    (
        "MEASUREMENTS",
        "The software is one of the named reference tuples",
        "policy.md#reference-values",
    ),
    ("EVENT-LOG", "The event log replays and names this boot's keys last", "policy.md#event-log"),
    ("PLATFORM", "The machine is on the platform list", "policy.md#platform"),
    (
        "BOOT-STATEMENT",
        "The quote speaks for this boot's statement",
        "statements.md#attested-gatewaybootv1",
    ),
    (
        "BOOT-CHAIN",
        "The boot names its predecessor, and no other boot names the same",
        "statements.md#boot",
    ),
    ("KEYSET", "The boot statement commits to this keyset", "statements.md#keyset"),
    ("CHANNEL", "The connection ended at a key of the keyset", "statements.md#keyset"),
    ("GPU-GENUINE", "The GPU evidence is signed by a certified device", "policy.md#gpu"),
    ("GPU-MEASUREMENTS", "The GPU firmware is as published", "policy.md#gpu"),
    ("GPU-BINDING", "The GPU evidence belongs to this boot", "policy.md#gpu"),
    ("RECEIPT-FORMAT", "The receipt has the one form of its profile", "receipt.md#the-token"),
    (
        "RECEIPT-SIGNATURE",
        "The receipt is signed by the boot's receipt key",
        "receipt.md#verifying",
    ),
    ("RECEIPT-BINDING", "The receipt's claims all name this one boot", "receipt.md#verifying"),
    ("NONCE", "Receipt or challenge covers the caller's nonce", "receipt.md#verifying"),
    ("REQUEST-BODY", "The receipt commits to this request", "receipt.md#commitments-and-openings"),
    (
        "FORWARDED-BODY",
        "The engine was given what the receipt says",
        "receipt.md#commitments-and-openings",
    ),
    (
        "ENGINE-BODY",
        "The engine answered what the receipt says",
        "receipt.md#commitments-and-openings",
    ),
    ("RESPONSE-BODY", "The receipt commits to this answer", "receipt.md#commitments-and-openings"),
    ("ENGINE-LOCAL", "The engine ran inside this trust domain", "model.md#verifying"),
    ("MODEL", "The model is the one that was measured", "model.md#verifying"),
    ("LOG-INCLUSION", "The receipt is in the log at its own index", "bundle.md#anchoring"),
    ("LOG-CHECKPOINT", "The log key signed the checkpoint", "bundle.md#anchoring"),
    ("EPOCH-QUOTE", "A quote of the same boot covers the checkpoint", "bundle.md#anchoring"),
    ("EPOCH-CHAIN", "The epochs form one chain, and their log is whole", "bundle.md#epoch-chain"),
    (
        "EQUIVOCATION",
        "Nothing in the file contradicts the log's one order",
        "bundle.md#equivocation",
    ),
    ("WITNESS", "Independent witnesses signed the checkpoint", "bundle.md#anchoring"),
    ("LINEAGE-EDGES", "Declared parents exist and precede the call", "receipt.md#lin"),
    ("LINEAGE-COMPLETE", "No call of the task is missing", "receipt.md#lin"),
)

CHECKS: dict[str, CheckSpec] = {
    id_: CheckSpec(id=id_, title=title, spec=spec) for id_, title, spec in _TABLE
}

QUOTE_FLOOR = frozenset(
    {
        "QUOTE-FORMAT", "QUOTE-GENUINE", "COLLATERAL-FRESH", "TCB-STATUS", "TCB-ADVISORIES",
        "TD-ATTRIBUTES", "TDX-MODULE", "MEASUREMENTS", "EVENT-LOG",
    }
)  # fmt: skip
"""What every quote must pass, whatever a policy says."""

ANCHORING = frozenset({"LOG-INCLUSION", "LOG-CHECKPOINT", "EPOCH-QUOTE"})
"""What ties a receipt to a quoted state of the log."""

FLOOR = (
    QUOTE_FLOOR
    | ANCHORING
    | {
        "BUNDLE", "BOOT-STATEMENT", "KEYSET", "RECEIPT-FORMAT", "RECEIPT-SIGNATURE",
        "RECEIPT-BINDING", "EQUIVOCATION",
    }
)  # fmt: skip
"""What an audit bundle must pass; a policy adds to it and may lift only `ANCHORING`."""
