"""From TOML to a `Policy`: closed keys, no empty lists, nothing implied (docs/spec/policy.md)."""

from __future__ import annotations

import tomllib

from attestation.checks import CHECKS
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.policy.model import Policy
from attestation.policy.parse_platform import read_platform
from attestation.policy.parse_references import read_reference_values
from attestation.policy.parse_tdx import read_tdx
from attestation.policy.table import Table, read_name, read_text, refuse

SCHEMA = "appraisal-policy/1"
MAX_POLICY_BYTES = 1 << 20
# A dotted key of n parts takes tomllib n * n steps, and a key stands on one line.
MAX_DOTS_IN_LINE = 256


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
        version=top.optional("version", read_name),
        tdx=read_tdx(top.table("tdx")),
        reference_values=read_reference_values(top),
        max_age_days=_max_age_days(top.table("endorsements")),
        platform=read_platform(top.table("platform")),
        gpu_required=_single_flag(top.table("gpu"), "required", default=False),
        require_anchored=_optional_flag(log, "require_anchored", default=True),
        require_complete=_optional_flag(log, "require_complete", default=False),
        lineage_complete=_single_flag(top.table("lineage"), "require_complete", default=False),
        require=_require(top.table("require")),
    )
    log.close()
    top.close()
    if "PLATFORM" in policy.require and not policy.platform.demands:
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


def _max_age_days(table: Table) -> int | None:
    days = table.integer("max_age_days", minimum=1) if table.has("max_age_days") else None
    table.close()
    return days


def _require(table: Table) -> frozenset[str]:
    checks = table.optional_items("checks", read_check_id) or ()
    table.close()
    return frozenset(checks)


def read_check_id(value: object, path: str) -> str:
    """Return the id of a check."""
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
