"""What each check establishes, against what, and what to do where it does not pass."""

from __future__ import annotations

from typing import Any

from attestation.checks import ANCHORING, CHECKS, FLOOR

EXPLANATIONS = {
    "BUNDLE": (
        "The file's bytes are the one canonical form of its contents, with no unknown member, "
        "nothing twice and nothing unused. A file in another form is MALFORMED: two programs "
        "could read it differently."
    ),
    "QUOTE-FORMAT": (
        "The quote is a TDX quote of version 4 or 5 in the one form that bundles carry. Outside "
        "its signed region a quote can be changed without breaking a signature, so only one "
        "form is taken."
    ),
    "QUOTE-GENUINE": (
        "Signatures lead from the quote over the platform's quoting enclave and certificates to "
        "a root that you accept; nothing on the way is revoked. Without it anybody wrote the "
        "quote. It needs endorsements: in the file, or given with --endorsements."
    ),
    "COLLATERAL-FRESH": (
        "Intel's signed data about the platform is within its dates at the instant you judge by "
        "(--at, now if absent), and no older than the policy allows. Fetch current "
        "endorsements, or judge by the instant at which you held the evidence."
    ),
    "TCB-STATUS": (
        "Firmware, microcode, TDX module and quoting enclave have a patch status that the "
        "policy lists. A platform that is behind can be open to known attacks."
    ),
    "TCB-ADVISORIES": (
        "Intel names no security advisory for this patch level beyond those that the policy "
        "allows until a date."
    ),
    "TD-ATTRIBUTES": (
        "The trust domain cannot be debugged, migrated or observed by performance counters, and "
        "no service domain is bound to it. A debug domain's memory is open to its host."
    ),
    "TDX-MODULE": (
        "The module that isolates the domain is a production module signed by Intel, and on the "
        "policy's list if it has one."
    ),
    "MEASUREMENTS": (
        "Image, firmware, boot loader, kernel and the facts of the boot statement are those of "
        "one named tuple of the policy, all of it. This is what says which software ran; "
        "without a policy nothing does."
    ),
    "EVENT-LOG": (
        "The log of run-time events adds up to the quote's registers, and its last event names "
        "this boot's keys. So keys that another start of the software drew in the same domain "
        "do not pass for this boot's."
    ),
    "PLATFORM": (
        "The machine is on the policy's list. An attestation key extracted by physical attack "
        "forges quotes for its own machine only, so that a list limits the harm."
    ),
    "BOOT-STATEMENT": (
        "The quote's REPORTDATA is the hash of the statement beside it: the hardware signature "
        "covers the keys, the log and the settings that the statement names."
    ),
    "BOOT-CHAIN": (
        "The boot before signed the checkpoint that this boot continues, no second boot "
        "continues it, no boot precedes itself, and nothing larger than that checkpoint had "
        "been quoted: otherwise the boot was started from an older copy of the log. Skipped "
        "where the predecessor is not in the file."
    ),
    "KEYSET": "The boot statement commits to this very set of keys, each in one role.",
    "CHANNEL": (
        "The TLS connection ended at a key of the keyset, which only a live client can compare. "
        "Without it an operator could read along outside the trust domain."
    ),
    "GPU-GENUINE": ("Evidence of a GPU is signed by a certified device. Not made by this version."),
    "GPU-MEASUREMENTS": "The GPU's firmware is as published. Not made by this version.",
    "GPU-BINDING": "The GPU evidence belongs to this boot. Not made by this version.",
    "RECEIPT-FORMAT": (
        "The receipt is a token of its profile in its one form: closed claims, canonical bytes."
    ),
    "RECEIPT-SIGNATURE": "The one receipt key of the boot's keyset signed the receipt.",
    "RECEIPT-BINDING": (
        "Boot, keyset, quote, log, debug state and time that the receipt names all belong to "
        "one boot in the file."
    ),
    "NONCE": (
        "What you drew for this one exchange is in the receipt or under the challenge's root: "
        "it was made afterwards, and for you."
    ),
    "REQUEST-BODY": "The receipt commits to the request that you hold, byte for byte.",
    "FORWARDED-BODY": (
        "The engine was given your bytes, or your bytes with exactly the rewrites that the "
        "receipt lists."
    ),
    "ENGINE-BODY": "What the engine sent is what the receipt commits to.",
    "RESPONSE-BODY": "The receipt commits to the answer that you hold, byte for byte.",
    "ENGINE-LOCAL": (
        "The measured gateway says that every attempt went to the engine behind a Unix socket of "
        "its own trust domain, and the boot measured model lock and engine arguments. An answer "
        "of an engine across a network cannot pass. Skipped where the receipt calls no attempt "
        "local; one that it calls local with nothing measured behind it is rejected."
    ),
    "MODEL": (
        "Model digest and engine arguments of the receipt are those that the boot measured into "
        "RTMR3 before its keys, and its statement names the same model. With --model-lock they are "
        "those of that file. By hand: sha256sum model.lock is the digest, and the events are in "
        "`attested eventlog`. Skipped where the receipt has none: then the model's name is the "
        "engine's word."
    ),
    "LOG-INCLUSION": (
        "A proof leads from the receipt, at its own index, to the root of a checkpoint: the "
        "receipt cannot be left out, moved or replaced in the log that this checkpoint is of. "
        "Ask the gateway again with ?wait=anchored."
    ),
    "LOG-CHECKPOINT": (
        "The log key of the receipt's or the epoch's own boot signed the checkpoint, about its "
        "own log. A stolen key could do so as well: EPOCH-QUOTE is what a thief cannot make."
    ),
    "EPOCH-QUOTE": (
        "On an epoch: a genuine quote of the boot's own trust domain and platform reports a "
        "statement about this boot, this checkpoint and counters that add up. On a receipt: the "
        "checkpoint of its proof is the one of an accepted epoch of its own boot. A receipt "
        "needs one epoch. From then on nobody, with whatever keys, makes another receipt in its "
        "place."
    ),
    "EPOCH-CHAIN": (
        "On `epochs of boot`: every epoch names the quote before it, from the boot's on, and "
        "nothing that it counts ever falls; missing numbers are named. On `log of boot`: the "
        "file holds every receipt below a quoted size, because boot statement, receipts and "
        "epoch statements make the quoted tree; or what is missing is named. One receipt needs "
        "neither; a policy demands both with [log] require_complete = true."
    ),
    "EQUIVOCATION": (
        "No two receipts share an index, an id or an admission number, no two epochs a number "
        "or the quote before them, no log has two roots for one size, and no epoch counts less "
        "than signed receipts show. A failure names the two things that contradict each other: "
        "keep the file, it proves that the gateway told two stories."
    ),
    "WITNESS": (
        "Independent witnesses signed the checkpoint. Signatures by others are counted and not "
        "checked by this version."
    ),
    "LINEAGE-EDGES": ("The parents that the receipt declares exist. Not made by this version."),
    "LINEAGE-COMPLETE": "No call of the task is missing. Not made by this version.",
}


def explain(id_: str) -> dict[str, Any]:
    """Return what there is to know about the check `id_`, one of `CHECKS`."""
    check = CHECKS[id_]
    if id_ in ANCHORING:
        needed = "always, unless the policy says [log] require_anchored = false"
    else:
        needed = "always" if id_ in FLOOR else "only if the policy asks for it"
    return {
        "id": id_,
        "title": check.title,
        "text": EXPLANATIONS[id_],
        "required": needed,
        "spec": f"docs/spec/{check.spec}",
    }
