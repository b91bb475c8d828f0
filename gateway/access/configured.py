"""The key store that a gateway's settings describe, and the file of its budgets."""

from __future__ import annotations

import contextlib
import errno
import time
from typing import TYPE_CHECKING

from gateway.access.bearer import TokenProfile
from gateway.access.budgets import FILE_NAME, BudgetFile, BudgetKeeper
from gateway.access.issuers import REQUIRED, Issuer, Rule
from gateway.access.key_sets import keys_of
from gateway.access.store import Clocks, KeyStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from gateway.access.quota_table import QuotaTable
    from gateway.settings import Settings
    from gateway.settings.access import IssuerSettings, RuleSettings
    from gateway.telemetry.events import Events


def load_key_store(settings: Settings) -> KeyStore:
    """Read the keys file; raises what prevents it."""
    access = settings.access
    return KeyStore(
        access.keys_file,
        Clocks(wall=time.time, monotonic=time.monotonic),
        issuers=tuple(map(_issuer, access.issuers)),
        rules=tuple(map(_rule, access.rules)),
    )


def budget_file(settings: Settings, table: QuotaTable) -> BudgetFile:
    """Return the file that keeps the budgets of `table`: as set, or in the data folder."""
    path = settings.access.budgets_file or settings.notary.data_dir / FILE_NAME
    return BudgetFile(path, table, time.time)


def open_budgets(
    stack: AsyncExitStack,
    settings: Settings,
    table: QuotaTable,
    events: Events,
    *,
    tell: Callable[[], None] = lambda: None,
) -> BudgetKeeper:
    """Load what was spent, and keep it on disk until `stack` closes.

    The file's folder must be there.  `tell` is called whenever the keeper's code changes.  Raises
    as `BudgetFile` does.
    """

    def told(error: OSError | None) -> None:
        if error is None:
            events.emit("budgets.kept")
        else:
            events.emit("budgets.unkept", reason=_reason(error))
        tell()

    file = budget_file(settings, table)
    file.load()
    file.require_folder()
    keeper = BudgetKeeper(file, told)
    keeper.start()
    stack.push_async_callback(keeper.close)
    return keeper


def save_last(file: BudgetFile) -> None:
    """Save once more at the end of a process; a disk that takes nothing changes no ending."""
    with contextlib.suppress(OSError):
        file.save()


def _reason(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "io").lower()


def _issuer(settings: IssuerSettings) -> Issuer:
    profile = TokenProfile(
        issuer=settings.issuer,
        audience=settings.audience,
        types=frozenset((settings.typ,)),
        required=REQUIRED,
        max_lifetime=settings.max_lifetime,
        leeway=settings.leeway,
    )
    return Issuer(profile=profile, keys=keys_of(settings.jwks))


def _rule(settings: RuleSettings) -> Rule:
    return Rule(
        issuer=settings.issuer,
        claims=tuple(settings.match.items()),
        grant=settings.grant,
        label=settings.label,
    )
