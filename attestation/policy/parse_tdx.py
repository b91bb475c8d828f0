"""The table `[tdx]` of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.policy.model import (
    UP_TO_DATE,
    AdvisoryRule,
    AttributeRule,
    StatusRule,
    TdxRules,
)
from attestation.policy.table import hex_reader, read_instant, read_table, read_uint64, refuse

if TYPE_CHECKING:
    from attestation.policy.table import Table

# Intel's names.  "Revoked" is missing on purpose: no policy can accept it.
_STATUSES = frozenset(
    {
        UP_TO_DATE, "SWHardeningNeeded", "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded",
    }
)  # fmt: skip
_PERMANENT = frozenset(
    {UP_TO_DATE, "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"}
)
_ADVISORY = r"[A-Z0-9-]{3,64}"

_read_register = hex_reader(48)
_read_svns = hex_reader(16)


def read_tdx(table: Table) -> TdxRules:
    """Return what the table `[tdx]` asks for."""
    plain = TdxRules()
    rules = TdxRules(
        tcb_status=table.optional_items("tcb_status", _status_rule) or plain.tcb_status,
        advisories=table.optional_items("advisories", _advisory_rule) or (),
        min_tcb_evaluation_number=_integer(table, "min_tcb_evaluation_number", minimum=0),
        min_tcb_date=table.optional("min_tcb_date", read_instant),
        min_tee_tcb_svn=table.optional("min_tee_tcb_svn", _read_svns),
        attributes=_attributes(table),
        xfam=table.optional_items("xfam", read_uint64) or plain.xfam,
        mrseam=table.optional_items("mrseam", _read_register),
        unbound_keys=_unbound_keys(table),
        max_key_events=_integer(table, "max_key_events", minimum=1),
    )
    table.close()
    return rules


def _status_rule(value: object, path: str) -> StatusRule:
    if isinstance(value, str):
        rule = StatusRule(status=value)
    else:
        table = read_table(value, path)
        rule = StatusRule(
            status=table.text("status"), until=read_instant(table.raw("until"), f"{path}.until")
        )
        table.close()
    if rule.status not in _STATUSES:
        raise refuse(path, "one of " + ", ".join(sorted(_STATUSES)))
    if rule.until is None and rule.status not in _PERMANENT:
        raise refuse(
            path,
            f'{{ status = "{rule.status}", until = <date> }}: '
            "an out-of-date platform is accepted for a stated time only",
        )
    return rule


def _advisory_rule(value: object, path: str) -> AdvisoryRule:
    table = read_table(value, path)
    rule = AdvisoryRule(
        id=table.text("id", pattern=_ADVISORY),
        until=read_instant(table.raw("until"), f"{path}.until"),
    )
    table.close()
    return rule


def _attributes(table: Table) -> AttributeRule:
    if not table.has("attributes"):
        return AttributeRule()
    path = table.name_of("attributes")
    value = table.raw("attributes")
    if not isinstance(value, dict):
        return AttributeRule(value=read_uint64(value, path))
    inner = read_table(value, path)
    rule = AttributeRule(
        value=read_uint64(inner.raw("value"), f"{path}.value"),
        mask=read_uint64(inner.raw("mask"), f"{path}.mask"),
    )
    inner.close()
    if not rule.mask or rule.value & ~rule.mask:
        raise refuse(path, "a mask with at least one bit and no bit of value outside it")
    return rule


def _unbound_keys(table: Table) -> bool:
    if not table.has("unbound_keys"):
        return False
    return table.text("unbound_keys", pattern="allow|refuse") == "allow"


def _integer(table: Table, key: str, *, minimum: int) -> int:
    return table.integer(key, minimum=minimum) if table.has(key) else minimum
