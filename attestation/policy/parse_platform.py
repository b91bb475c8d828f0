"""The table `[platform]` of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.policy.model import SGX_TYPES, ListedMachine, PlatformRules
from attestation.policy.table import hex_reader, read_instant, read_name, read_table, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.policy.table import Table


def read_platform(table: Table) -> PlatformRules:
    """Return what the table `[platform]` asks for."""
    rules = PlatformRules(
        ppid=table.optional_items("ppid", _machine_reader(16)),
        piid=table.optional_items("piid", _machine_reader(16)),
        fmspc=table.optional_items("fmspc", _machine_reader(6)),
        sgx_type=table.optional_items("sgx_type", _sgx_type),
        dynamic_platform=table.optional("dynamic_platform", _allowance),
        cached_keys=table.optional("cached_keys", _allowance),
        smt=table.optional("smt", _allowance),
    )
    table.close()
    return rules


def _machine_reader(size: int) -> Callable[[object, str], ListedMachine]:
    read_value = hex_reader(size)

    def read(value: object, path: str) -> ListedMachine:
        if not isinstance(value, dict):
            return ListedMachine(value=read_value(value, path))
        table = read_table(value, path)
        entry = ListedMachine(
            value=read_value(table.raw("value"), f"{path}.value"),
            label=table.optional("label", read_name),
            since=table.optional("from", read_instant),
            until=table.optional("until", read_instant),
        )
        table.close()
        if entry.since is not None and entry.until is not None and entry.since >= entry.until:
            raise refuse(path, "an instant `from` before `until`: this entry would never count")
        return entry

    return read


def _sgx_type(value: object, path: str) -> int:
    if value not in SGX_TYPES:
        raise refuse(path, "one of " + ", ".join(f'"{name}"' for name in SGX_TYPES))
    return SGX_TYPES.index(value)


def _allowance(value: object, path: str) -> bool:
    if value not in ("allow", "refuse"):
        raise refuse(path, '"allow" or "refuse"')
    return value == "allow"
