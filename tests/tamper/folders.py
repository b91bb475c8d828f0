"""Folders made by hand, equal in kind to what the demo leaves: quick, and the same every time."""

from __future__ import annotations

from dataclasses import replace

from attestation.encoding.digest import Digest
from attestation.receipt.claims import End, Splice
from attestation.receipt.outcome import Body
from tests.support.bundles import FRAMES, NOW, Gateway
from tests.support.epochs import COMPLETE, EpochLog
from tests.tamper.folder import AuditFolder

PROOFS = '[require]\nchecks = ["LOG-INCLUSION", "LOG-CHECKPOINT"]'
"""A policy that a receipt without its inclusion proof does not meet."""

REQUESTS = (b'{"model":"tiny","messages":["one"]}', b'{"model":"tiny","messages":["other"]}')


def gateway(seed: str, *, platform_of: Gateway | None = None) -> Gateway:
    """Return a boot with a plain exchange and a stream whose receipt is in its body.

    `platform_of` puts it on another boot's machine: same root, same software, other keys.
    """
    made = Gateway(seed=seed, platform=platform_of.machine if platform_of else None)
    made.plain(REQUESTS[0], b'{"answer":"%s"}' % seed.encode())
    made.stream((b'data: {"seed":"%s"}\n\n' % seed.encode(), *FRAMES))
    return made


def rich_gateway(seed: str) -> Gateway:
    """Return a boot that used everything a receipt has: a rewrite on the way to the engine, an
    answer that is not the engine's, and inclusion proofs.
    """
    made = gateway(seed)
    at, salt = 1, b'"cache_salt":"c2FsdA",'
    forwarded = REQUESTS[0][:at] + salt + REQUESTS[0][at:]
    made.plain(
        REQUESTS[0],
        b'{"error":"the engine broke off"}',
        engine=b'{"answer":"and th',
        end=End.UPSTREAM_ERROR,
        nonce="5d0a5d0a5d0a5d0a",
        forwarded=Body(digest=Digest.of(forwarded), length=len(forwarded)),
        splices=(Splice(code="cache_salt", offset=at, deleted=0, inserted=len(salt)),),
        inserted=(salt,),
    )
    made.anchored()
    return made


def epoch_log(seed: str, *, platform_of: Gateway | None = None) -> EpochLog:
    """Return a boot with two quoted epochs over three receipts, and a request in flight."""
    made = Gateway(seed=seed, platform=platform_of.machine if platform_of else None)
    log = EpochLog(made, unauthenticated=3, refused=2)
    log.serve(2)
    log.announce()
    log.quote_epoch()
    log.serve()
    log.quote_epoch()
    return log


def folder_of_log(log: EpochLog) -> AuditFolder:
    """Return the audit folder of a whole log; its policy asks for every receipt, anchored."""
    folder = folder_of(log.made)
    return replace(folder, bundle=log.bundle().encode(), policy=log.policy(COMPLETE))


def folder_of(made: Gateway, *, more: str = "") -> AuditFolder:
    """Return the audit folder of a boot: its bundle, its bodies, its policy and its root.

    `more` is added to the policy.
    """
    bodies = {}
    for exchanged in made.exchanged:
        bodies[f"{exchanged.jti}.request"] = exchanged.request
        bodies[f"{exchanged.jti}.response"] = exchanged.response
        if exchanged.engine is not None:
            bodies[f"{exchanged.jti}.engine"] = exchanged.engine
    return AuditFolder(
        bundle=made.bundle().encode(),
        bodies=bodies,
        policy=made.policy(more=more),
        anchors=(made.anchor,),
        at=NOW + 60,
    )
