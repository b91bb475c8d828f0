"""Who is let in beside the holders of keys, and what is known of what callers have spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import AttestationError
from gateway.access.configured import budget_file
from gateway.access.key_sets import keys_of
from gateway.access.quota_table import QuotaTable
from gateway.cli.checkup.finding import Finding, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.settings import Settings

AREA = "service"


def caller_findings(settings: Settings, now: int) -> Iterator[Finding]:
    """Look at issuers, if there are any, and at the file of token budgets, if there is one.

    `now` is in Unix seconds.
    """
    access = settings.access
    if access.issuers:
        subject = Subject(id="service.issuers", area=AREA, title="token issuers")
        # The settings were read, so every key set is one.
        keys = sum(len(keys_of(issuer.jwks)) for issuer in access.issuers)
        shown = f"{len(access.issuers)} with {keys} pinned keys, {len(access.rules)} rules"
        yield subject.ok(shown, issuers=len(access.issuers), keys=keys, rules=len(access.rules))
    table = QuotaTable.alone()
    subject = Subject(id="service.budgets", area=AREA, title="token budgets")
    try:
        budget_file(settings, table).load()
    except AttestationError as error:
        yield subject.refused(error)
        return
    kept = sum(1 for _ in table.budgets(now // 86_400))
    if kept:
        yield subject.ok(f"{kept} that something is spent of", budgets=kept)
