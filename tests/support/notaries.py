"""A local notary on a simulated platform, for tests that need a real one."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from attestation.encoding.digest import Digest
from attestation.lineage.context import LineageContext
from attestation.receipt.claims import End
from attestation.receipt.outcome import Body, Outcome
from gateway.access.principal import Grant, subject_of
from gateway.attester.base import open_provider
from gateway.notary.boot import BootPlan
from gateway.notary.interface import Announcement, Notary
from gateway.notary.local import LocalNotary
from gateway.notary.parts import NotaryLimits, NotaryParts
from gateway.telemetry.metrics import Metrics

ALICE = subject_of(b"ag-alice")
BOB = subject_of(b"ag-bob")
PATH = "/v1/chat/completions"


def new_jti() -> str:
    return secrets.token_hex(16)


def notary_parts(folder: Path, **changes: Any) -> NotaryParts:
    """Parts of a notary whose data folder is `folder`/data and whose quotes are simulated."""
    now = int(time.time())
    plan = BootPlan(
        name="gw.test",
        config_digest=Digest.of(b"config"),
        tls_spki=(),
        not_after=now + 86_400,
        now=now,
    )
    parts = NotaryParts(
        provider=open_provider("simulated:"),
        plan=plan,
        data_dir=folder / "data",
        metrics=Metrics(),
        limits=NotaryLimits(quote_interval=0.0),
    )
    return replace(parts, **changes)


@asynccontextmanager
async def running_notary(folder: Path, **changes: Any) -> AsyncIterator[LocalNotary]:
    """A started notary that is closed at the end."""
    notary = await LocalNotary.start(notary_parts(folder, **changes))
    try:
        yield notary
    finally:
        await notary.close()


@asynccontextmanager
async def quiet_notary(folder: Path, **changes: Any) -> AsyncIterator[LocalNotary]:
    """A started notary whose platform gives no quote after the boot's: no epochs, no challenges."""
    changes = {"provider": open_provider("simulated:?failure_rate=1"), **changes}
    limits = replace(changes.pop("limits", NotaryLimits()), closing_seconds=0.0)
    async with running_notary(folder, limits=limits, **changes) as notary:
        yield notary


def announcement(jti: str, sub: Digest = ALICE, **changes: Any) -> Announcement:
    base = Announcement(
        jti=jti, method="POST", path=PATH, sub=sub, grant_digest=Grant().digest, lineage=None
    )
    return replace(base, **changes)


def outcome(jti: str, sub: Digest = ALICE, **changes: Any) -> Outcome:
    """A complete plain exchange with small bodies."""
    base = Outcome(
        jti=jti,
        method="POST",
        path=PATH,
        sub=sub,
        grant_digest=Grant().digest,
        lineage=LineageContext(txn=secrets.token_hex(16), span=secrets.token_hex(8)),
        inline=True,
        end=End.COMPLETE,
        decision="allow",
        request=Body(digest=Digest.of(b"request"), length=7),
        request_type="application/json",
        status=200,
        response=Body(digest=Digest.of(b"response"), length=8),
        response_type="application/json",
    )
    return replace(base, **changes)


async def sealed(notary: Notary, sub: Digest = ALICE, **changes: Any) -> Any:
    """Announce and seal one request."""
    jti = new_jti()
    notary.announce(announcement(jti, sub))
    return await notary.seal(outcome(jti, sub, **changes))
