"""From a `measurements.json`, as flashbots' proxies read it, to an appraisal policy.

The format: an array of entries `measurement_id`, `attestation_type`, `measurements`; the last is
an object from registers to `{"expected": hex}` or `{"expected_any": [hex, …]}`
(flashbots/cvm-reverse-proxy, common/expected_measurements.go; flashbots/attested-tls,
crates/attestation/README.md).  Its readers take an empty object, an absent register and an
entry without measurements for "anything will do".  Here each of them is an error: a policy that
accepts more than its author wrote down is worse than none.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits, parse_json
from attestation.errors import MalformedError
from attestation.policy.model import TdxRules
from attestation.policy.parse import SCHEMA, parse_policy
from attestation.policy.toml import toml_comment, toml_pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attestation.encoding.strict_json import JsonValue

MAX_TUPLES = 256
_LIMITS = JsonLimits(max_bytes=1 << 20, max_depth=6, max_members=10_000)
_ID = r"[\x21-\x7e][\x20-\x7e]{0,99}"
_HEX = r"[0-9a-fA-F]{96}"
_REGISTERS = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
_NAMES = {str(index): name for index, name in enumerate(_REGISTERS)} | {
    name: name for name in _REGISTERS
}
_NEEDED = _REGISTERS[:4]
_OTHER_TYPES = {
    "azure-tdx": "its registers are those of a vTPM, which no TDX quote shows",
    "gcp-tdx": "it asks for one cloud; say dcap-tdx if any machine with these registers will do, "
    "and list machines in [platform]",
    "qemu-tdx": "say dcap-tdx if any machine with these registers will do",
    "none": "it accepts whoever shows no evidence",
}
_HEAD = """\
# Made by `attested policy import --format {format}`; the source names registers and nothing else.
# What it does not say has the strict value, here or by default. Go through all of it, then run
# `attested policy lint` on this file.
schema = "{schema}"

[tdx]
# not in the source: no out-of-date platform
{status}
# not in the source: SEPT_VE_DISABLE and nothing else, the usual processor state
{attributes}
{xfam}
# not in the source: keys are bound to RTMR3, and the notary started once
unbound_keys = "refuse"
max_key_events = 1
# not in the source, and without a default: which TDX modules (mrseam), the lowest TCB evaluation
# (min_tcb_evaluation_number), the age of endorsements ([endorsements]), which machines ([platform])
"""


def import_measurements(data: bytes) -> str:
    """Return the text of an appraisal policy (TOML) that accepts what `data` names, no more.

    Each entry becomes a tuple of reference values; a register with several values becomes a
    tuple for each combination, at most `MAX_TUPLES` in all.  The result has been read back.
    Raises `MalformedError`, with the path in the source, for an empty list or object, an unknown
    type, register or member, a register that is missing or named twice, another length, and
    names that are used twice.
    """
    value = parse_json(data, _LIMITS)
    if not isinstance(value, list) or not value:
        raise _refused(
            "the file",
            "a non-empty array of entries with measurement_id, attestation_type, measurements",
            "an empty list accepts everything where this format comes from, and nothing here",
        )
    tuples: list[tuple[str, dict[str, str]]] = []
    for index, entry in enumerate(value):
        tuples += _tuples(entry, f"[{index}]", room=MAX_TUPLES - len(tuples))
    text = _rendered(tuples)
    parse_policy(text.encode())
    return text


def strict_head(source_format: str) -> str:
    """Return how a policy begins that was imported from a list of registers."""
    plain = TdxRules()
    return _HEAD.format(
        format=source_format,
        schema=SCHEMA,
        status=toml_pair("tcb_status", [rule.status for rule in plain.tcb_status]),
        attributes=toml_pair("attributes", f"{plain.attributes.value:#x}"),
        xfam=toml_pair("xfam", [f"{value:#x}" for value in plain.xfam]),
    )


def _tuples(entry: JsonValue, path: str, *, room: int) -> list[tuple[str, dict[str, str]]]:
    members = Members(entry, f"entry {path}")
    name = members.text("measurement_id", pattern=_ID)
    _require_type(members.text("attestation_type"), path)
    values = _registers(members.mapping("measurements"), f"{path}.measurements")
    members.close()
    count = 1
    for several in values.values():
        count *= len(several)
    if count > room:
        raise _refused(
            f"{path}.measurements",
            f"at most {MAX_TUPLES} combinations of values in the whole file",
            "registers of one image belong together: write an entry for each image",
            observed=f"{count} here" + ("" if room == MAX_TUPLES else f", {room} left"),
        )
    combined = [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]
    if count == 1:
        return [(name, combined[0])]
    return [(f"{name} ({n} of {count})", one) for n, one in enumerate(combined, 1)]


def _require_type(told: str, path: str) -> None:
    if told != "dcap-tdx":
        raise _refused(
            f"{path}.attestation_type",
            "dcap-tdx",
            _OTHER_TYPES.get(told, "no other type is known to be made of TDX registers alone"),
            observed=ascii(told)[:64],
        )


def _registers(measurements: Mapping[str, JsonValue], path: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in measurements.items():
        name = _NAMES.get(key.lower())
        if name is None:
            raise _refused(
                f"{path} {ascii(key)[:64]}", "a register: mrtd, rtmr0 to rtmr3, or 0 to 4 for them"
            )
        if name in found:
            raise _refused(f"{path}.{name}", "each register once", "0 is mrtd, 1 is rtmr0, …")
        found[name] = _accepted(value, f"{path}.{key}")
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise _refused(
            path,
            "a value for each of " + ", ".join(_NEEDED),
            "where this format comes from, a register that is not named may have any value",
            observed="no " + ", ".join(missing),
        )
    return {name: found[name] for name in _REGISTERS if name in found}


def _accepted(value: JsonValue, path: str) -> list[str]:
    members = Members(value, f"register {path}")
    if members.has("warnOnly") and members.flag("warnOnly"):
        raise _refused(f"{path}.warnOnly", "false", "a value that only warns is not required")
    if members.has("expected_any"):
        told = members.array("expected_any", max_items=MAX_TUPLES)
        path = f"{path}.expected_any"
    else:
        told = [members.raw("expected")]
    members.close()
    if not told:
        raise _refused(path, "at least one value", "an empty list would accept any value")
    values = [_value(item, path) for item in told]
    if len(set(values)) != len(values):
        raise _refused(path, "each value once")
    return values


def _value(item: JsonValue, path: str) -> str:
    # One member, so that the reader's own refusals name type and form.
    text = Members({"value": item}, f"register {path}").text("value", pattern=_HEX)
    return text.lower()


def _rendered(tuples: Iterable[tuple[str, Mapping[str, str]]]) -> str:
    lines = [strict_head("flashbots")]
    for name, registers in tuples:
        lines.append("[[reference_values]]")
        lines.append(toml_pair("name", name))
        lines += [toml_pair(register, registers[register]) for register in _NEEDED]
        lines += _rtmr3(registers.get("rtmr3"))
        lines.append(
            toml_comment("not in the source: mrconfigid (zero), config_digest, origin, model")
        )
        lines.append("")
    return "\n".join(lines)


def _rtmr3(told: str | None) -> list[str]:
    if told is None:
        return [
            toml_comment("not in the source: the event log has to account for all of it"),
            toml_pair("rtmr3", "replay"),
        ]
    return [
        toml_comment('from the source; a gateway that binds its keys needs "replay" here'),
        toml_pair("rtmr3", told),
    ]


def _refused(where: str, expected: str, hint: str = "", *, observed: str = "") -> MalformedError:
    return MalformedError(
        f"{where} is not usable",
        code="measurements",
        expected=expected,
        observed=observed,
        hint=hint,
    )
