"""The tables `[[reference_values]]` of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.policy.model import ZERO_48, ReferenceValues, RequiredEvent
from attestation.policy.table import hex_reader, read_name, read_table, refuse

if TYPE_CHECKING:
    from attestation.policy.table import Table

REPLAY = "replay"

_read_register = hex_reader(48)
_read_rtmr3 = hex_reader(48, instead=f', or "{REPLAY}"')
_read_sha256 = hex_reader(32)


def read_reference_values(top: Table) -> tuple[ReferenceValues, ...]:
    """Return every tuple of `[[reference_values]]`; there is at least one."""
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
        name=_name(table),
        mrtd=register("mrtd"),
        rtmr0=register("rtmr0"),
        rtmr1=register("rtmr1"),
        rtmr2=register("rtmr2"),
        rtmr3=rtmr3,
        events=table.optional_items("events", _event) or (),
        mrconfigid=table.optional("mrconfigid", _read_register) or ZERO_48,
        mrowner=table.optional("mrowner", _read_register) or ZERO_48,
        mrownerconfig=table.optional("mrownerconfig", _read_register) or ZERO_48,
        config_digest=table.optional("config_digest", _read_digest),
        origin=table.optional("origin", read_name),
        image=table.optional("image", read_name),
        model=table.optional("model", _read_digest),
    )
    table.close()
    if values.events and rtmr3 is not None:
        raise refuse(f"{path}.events", f'rtmr3 = "{REPLAY}" beside it')
    return values


def _event(value: object, path: str) -> RequiredEvent:
    table = read_table(value, path)
    event = RequiredEvent(
        name=_name(table),
        digest=_read_register(table.raw("digest"), f"{path}.digest"),
    )
    table.close()
    return event


def _name(table: Table) -> str:
    return read_name(table.raw("name"), table.name_of("name"))


def _read_digest(value: object, path: str) -> Digest:
    return Digest(_read_sha256(value, path))
