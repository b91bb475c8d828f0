"""From TOML to a `Policy`: closed keys, no empty lists, nothing implied (docs/spec/policy.md)."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, TypeVar

from attestation.checks import CHECKS
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.policy.model import (
    UP_TO_DATE,
    AdvisoryRule,
    AttributeRule,
    PlatformRules,
    Policy,
    ReferenceValues,
    RequiredEvent,
    StatusRule,
    TdxRules,
)
from attestation.policy.table import (
    Table,
    hex_reader,
    read_instant,
    read_table,
    read_text,
    read_uint64,
    refuse,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = "appraisal-policy/1"
MAX_POLICY_BYTES = 1 << 20
# A dotted key of n parts takes tomllib n * n steps, and a key stands on one line.
MAX_DOTS_IN_LINE = 256
REPLAY = "replay"

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
_NAME = r"[\x21-\x7e][\x20-\x7e]{0,127}"

T = TypeVar("T")

_read_register = hex_reader(48)
_read_rtmr3 = hex_reader(48, instead=f', or "{REPLAY}"')
_read_sha256 = hex_reader(32)


def parse_policy(data: bytes) -> Policy:
    """Return the policy that the TOML file `data` (UTF-8, at most 1 MiB) states.

    Guarantees: every key is known and of its type, no list is empty, at least one tuple of
    reference values is given and no name is used twice.  Raises `MalformedError` whose message
    carries the path of the key.
    """
    top = Table(load_toml(data))
    top.text("schema", pattern=SCHEMA)
    log = top.table("log")
    policy = Policy(
        digest=Digest.of(data),
        tdx=_tdx(top.table("tdx")),
        reference_values=_reference_values(top),
        max_age_days=_max_age_days(top.table("endorsements")),
        platform=_platform(top.table("platform")),
        gpu_required=_single_flag(top.table("gpu"), "required", default=False),
        require_anchored=_optional_flag(log, "require_anchored", default=True),
        require_complete=_optional_flag(log, "require_complete", default=False),
        lineage_complete=_single_flag(top.table("lineage"), "require_complete", default=False),
        require=_require(top.table("require")),
    )
    log.close()
    top.close()
    if "PLATFORM" in policy.require and policy.platform == PlatformRules():
        raise refuse("require.checks", "a [platform] table with a list beside PLATFORM")
    return policy


def load_toml(data: bytes) -> dict[str, object]:
    """Return the top table of a TOML file that people write (UTF-8, at most 1 MiB).

    Raises `MalformedError` for one that is too large, not TOML, or costly to read.
    """
    if len(data) > MAX_POLICY_BYTES:
        raise MalformedError(
            "the policy is too large",
            code="size",
            expected=f"at most {MAX_POLICY_BYTES} bytes",
            observed=f"{len(data)} bytes",
        )
    if any(line.count(b".") > MAX_DOTS_IN_LINE for line in data.splitlines()):
        raise MalformedError(
            "the policy has a line full of dots",
            code="policy_toml",
            expected=f"at most {MAX_DOTS_IN_LINE} dots in a line",
        )
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, OverflowError, RecursionError) as error:
        # The position, not the text: tomllib quotes nothing but single characters.
        raise MalformedError(
            "the policy is not TOML", code="policy_toml", observed=str(error)[:200]
        ) from None


def _tdx(table: Table) -> TdxRules:
    plain = TdxRules()
    rules = TdxRules(
        tcb_status=_optional_items(table, "tcb_status", _status_rule) or plain.tcb_status,
        advisories=_optional_items(table, "advisories", _advisory_rule) or (),
        min_tcb_evaluation_number=_optional_integer(table, "min_tcb_evaluation_number", 0),
        attributes=_attributes(table),
        xfam=_optional_items(table, "xfam", read_uint64) or plain.xfam,
        mrseam=_optional_items(table, "mrseam", _read_register),
        unbound_keys=_unbound_keys(table),
        max_key_events=_optional_integer(table, "max_key_events", 1),
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


def _reference_values(top: Table) -> tuple[ReferenceValues, ...]:
    tuples = top.items("reference_values", _reference)
    names = [values.name for values in tuples]
    if len(set(names)) != len(names):
        raise refuse("reference_values", "a different name for every tuple")
    return tuples


def _reference(value: object, path: str) -> ReferenceValues:
    table = read_table(value, path)

    def register(key: str) -> bytes:
        return _read_register(table.raw(key), f"{path}.{key}")

    told = table.raw("rtmr3")
    rtmr3 = None if told == REPLAY else _read_rtmr3(told, f"{path}.rtmr3")
    values = ReferenceValues(
        name=table.text("name", pattern=_NAME),
        mrtd=register("mrtd"),
        rtmr0=register("rtmr0"),
        rtmr1=register("rtmr1"),
        rtmr2=register("rtmr2"),
        rtmr3=rtmr3,
        events=_optional_items(table, "events", _event) or (),
        mrconfigid=register("mrconfigid") if table.has("mrconfigid") else bytes(48),
        config_digest=_optional_digest(table, "config_digest"),
        origin=table.text("origin", pattern=_NAME) if table.has("origin") else None,
        image=table.text("image", pattern=_NAME) if table.has("image") else None,
        model=_optional_digest(table, "model"),
    )
    table.close()
    if values.events and rtmr3 is not None:
        raise refuse(f"{path}.events", f'rtmr3 = "{REPLAY}" beside it')
    return values


def _event(value: object, path: str) -> RequiredEvent:
    table = read_table(value, path)
    event = RequiredEvent(
        name=table.text("name", pattern=_NAME),
        digest=_read_register(table.raw("digest"), f"{path}.digest"),
    )
    table.close()
    return event


def _max_age_days(table: Table) -> int | None:
    days = table.integer("max_age_days", minimum=1) if table.has("max_age_days") else None
    table.close()
    return days


def _platform(table: Table) -> PlatformRules:
    rules = PlatformRules(
        ppid=_optional_items(table, "ppid", hex_reader(16)),
        piid=_optional_items(table, "piid", hex_reader(16)),
        fmspc=_optional_items(table, "fmspc", hex_reader(6)),
    )
    table.close()
    return rules


def _require(table: Table) -> frozenset[str]:
    checks = _optional_items(table, "checks", _check_id) or ()
    table.close()
    return frozenset(checks)


def _check_id(value: object, path: str) -> str:
    id_ = read_text(value, path, r"[A-Z-]{1,64}")
    if id_ not in CHECKS:
        raise refuse(path, "the id of a check; `attested explain` lists them")
    return id_


def _single_flag(table: Table, key: str, *, default: bool) -> bool:
    value = _optional_flag(table, key, default=default)
    table.close()
    return value


def _optional_flag(table: Table, key: str, *, default: bool) -> bool:
    return table.flag(key) if table.has(key) else default


def _optional_items(
    table: Table, key: str, read: Callable[[object, str], T]
) -> tuple[T, ...] | None:
    return table.items(key, read) if table.has(key) else None


def _optional_integer(table: Table, key: str, minimum: int) -> int:
    return table.integer(key, minimum=minimum) if table.has(key) else minimum


def _optional_digest(table: Table, key: str) -> Digest | None:
    if not table.has(key):
        return None
    return Digest(_read_sha256(table.raw(key), table.name_of(key)))
