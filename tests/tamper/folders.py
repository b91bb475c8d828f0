"""Folders made by hand, equal in kind to what the demo leaves: quick, and the same every time."""

from __future__ import annotations

from tests.support.bundles import FRAMES, NOW, Gateway
from tests.tamper.folder import AuditFolder

REQUESTS = (b'{"model":"tiny","messages":["one"]}', b'{"model":"tiny","messages":["other"]}')


def gateway(seed: str, *, platform_of: Gateway | None = None) -> Gateway:
    """Return a boot with a plain exchange and a stream whose receipt is in its body.

    `platform_of` puts it on another boot's machine: same root, same software, other keys.
    """
    made = Gateway(seed=seed, platform=platform_of.machine if platform_of else None)
    made.plain(REQUESTS[0], b'{"answer":"%s"}' % seed.encode())
    made.stream((b'data: {"seed":"%s"}\n\n' % seed.encode(), *FRAMES))
    return made


def folder_of(made: Gateway) -> AuditFolder:
    """Return the audit folder of a boot: its bundle, its bodies, its policy and its root."""
    bodies = {}
    for exchanged in made.exchanged:
        bodies[f"{exchanged.jti}.request"] = exchanged.request
        bodies[f"{exchanged.jti}.response"] = exchanged.response
    return AuditFolder(
        bundle=made.bundle().encode(),
        bodies=bodies,
        policy=made.policy(),
        anchors=(made.anchor,),
        at=NOW + 60,
    )
