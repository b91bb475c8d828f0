"""One row for every key of a policy: what it should accept, and the nearest it should not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from attestation.policy.toml import toml_value
from attestation.result import Verdict
from gateway.attester.simulated.facts import (
    DAY,
    TEE_TCB_SVN,
    Domain,
    Machine,
)
from tests.policy.evidences import ALL, AT, ISSUED, MODEL, SEVEN, evidence, off
from tests.support.bundles import CONFIG_DIGEST, NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One key: the lines by which a policy accepts, those by which it refuses, and how.

    `good` and `bad` are arguments of `policy_toml`.  `words` are in what the failing check says.
    `at` are the instants of the two ways.
    """

    key: str
    good: dict[str, str]
    bad: dict[str, str]
    check: str
    words: str
    verdict: Verdict = Verdict.NOT_ACCEPTED
    of: str = "healthy"
    at: int = AT


def quoted(value: bytes) -> str:
    return f'"{value.hex()}"'


def tdx(key: str, good: str, bad: str, check: str, words: str, **more: Any) -> Row:
    name = re.split(r"[.\[]", key)[0]
    good_lines, bad_lines = {"tdx": f"{name} = {good}"}, {"tdx": f"{name} = {bad}"}
    return Row(key=f"tdx.{key}", good=good_lines, bad=bad_lines, check=check, words=words, **more)


def status(name: str, until: int = AT + 1) -> str:
    return f'[{{ status = "{name}", until = {until} }}]'


def advisories(*names: str, until: int = AT + 1) -> str:
    return "[" + ", ".join(f'{{ id = "{name}", until = {until} }}' for name in names) + "]"


TDX = [
    tdx(
        "tcb_status", '["SWHardeningNeeded"]', '["ConfigurationNeeded"]', "TCB-STATUS",
        "the platform is SWHardeningNeeded", of="hardening",
    ),
    tdx(
        "tcb_status[].status", status("OutOfDate"), status("OutOfDateConfigurationNeeded"),
        "TCB-STATUS", "the platform is OutOfDate", of="out of date",
    ),
    tdx(
        "tcb_status[].until", status("OutOfDate", AT + 1), status("OutOfDate", AT),
        "TCB-STATUS", "the policy's entry for it has run out", of="out of date",
    ),
    tdx(
        "advisories", advisories("INTEL-SA-00001", "INTEL-SA-00002"),
        advisories("INTEL-SA-00001"), "TCB-ADVISORIES", "INTEL-SA-00002", of="two advisories",
    ),
    tdx(
        "advisories[].id", advisories("INTEL-SA-00001"), advisories("INTEL-SA-00002"),
        "TCB-ADVISORIES", "advisories are open", of="one advisory",
    ),
    tdx(
        "advisories[].until", advisories("INTEL-SA-00001", until=AT + 1),
        advisories("INTEL-SA-00001", until=AT), "TCB-ADVISORIES", "advisories are open",
        of="one advisory",
    ),
    tdx("min_tcb_evaluation_number", "20", "21", "COLLATERAL-FRESH", "earlier TCB evaluation"),
    tdx("min_tcb_date", "2025-05-14", "2025-05-14T00:00:01Z", "TCB-STATUS", "earlier date"),
    tdx(
        "min_tee_tcb_svn", quoted(TEE_TCB_SVN), quoted(off(TEE_TCB_SVN)), "TCB-STATUS",
        "below the policy's in component 15",
    ),
    tdx("attributes", "0x10000000", "0x50000000", "TD-ATTRIBUTES", "TDATTRIBUTES is not"),
    tdx(
        "attributes.value", f'{{ value = 0x10000000, mask = "{ALL}" }}',
        f'{{ value = 0x10000001, mask = "{ALL}" }}', "TD-ATTRIBUTES", "0x10000001 in the bits",
    ),
    tdx(
        "attributes.mask", '{ value = 0x10000000, mask = "0xffffffffbfffffff" }',
        f'{{ value = 0x10000000, mask = "{ALL}" }}', "TD-ATTRIBUTES", "TDATTRIBUTES is not",
        of="protection keys",
    ),
    tdx("xfam", "[0x602e7]", "[0x602e6]", "TD-ATTRIBUTES", "XFAM"),
    tdx(
        "mrseam", f"[{quoted(Machine().mr_seam)}]", f"[{quoted(off(Machine().mr_seam))}]",
        "TDX-MODULE", "not on the policy's list",
    ),
    tdx(
        "unbound_keys", '"allow"', '"refuse"', "EVENT-LOG", "does not bind this boot's keys",
        of="unbound",
    ),
    tdx("max_key_events", "2", "1", "EVENT-LOG", "started more often", of="second start"),
]  # fmt: skip


def more(key: str, good: str, bad: str, check: str, words: str, **rest: Any) -> Row:
    """A row for `table.key`, whose lines stand under that table."""
    table, name = re.split(r"[.\[]", key)[:2]
    section = "[{}]\n{} = {}"
    return Row(
        key=key,
        good={"more": section.format(table, name, good)},
        bad={"more": section.format(table, name, bad)},
        check=check,
        words=words,
        **rest,
    )


def machines(name: str, value: bytes) -> Iterator[Row]:
    """The rows of one list of machines."""

    def entry(told: bytes, bounds: str = "") -> str:
        return f'[{{ value = {quoted(told)}, label = "rack"{bounds} }}]'

    unlisted, ended = f"machine's {name} is not on", f"entry for the machine's {name} does not"
    key = f"platform.{name}"
    yield more(key, f"[{quoted(value)}]", f"[{quoted(off(value))}]", "PLATFORM", unlisted)
    yield more(f"{key}[].value", entry(value), entry(off(value)), "PLATFORM", unlisted)
    good, bad = entry(value, f", from = {AT}"), entry(value, f", from = {AT + 1}")
    yield more(f"{key}[].from", good, bad, "PLATFORM", ended)
    good, bad = entry(value, f", until = {AT + 1}"), entry(value, f", until = {AT}")
    yield more(f"{key}[].until", good, bad, "PLATFORM", ended)


def allowance(name: str, words: str) -> Row:
    return more(f"platform.{name}", '"allow"', '"refuse"', "PLATFORM", words)


def demand(key: str, check: str, words: str = "nothing to make this required check on") -> Row:
    return more(key, "false", "true", check, words, verdict=Verdict.INCOMPLETE)


OTHERS = [
    more(
        "endorsements.max_age_days", "2", "1", "COLLATERAL-FRESH", "older than the policy",
        at=ISSUED + 2 * DAY,
    ),
    *machines("ppid", b"p" * 16),
    *machines("piid", b"i" * 16),
    *machines("fmspc", Machine().fmspc),
    more(
        "platform.sgx_type", '["scalable"]', '["scalable-with-integrity"]', "PLATFORM",
        "SGX type is scalable",
    ),
    allowance("dynamic_platform", "says dynamic platform, which the policy refuses"),
    allowance("cached_keys", "says cached keys, which the policy refuses"),
    allowance("smt", "says SMT, which the policy refuses"),
    demand("gpu.required", "GPU-GENUINE GPU-MEASUREMENTS GPU-BINDING"),
    demand("lineage.require_complete", "LINEAGE-COMPLETE"),
    more(
        "require.checks", '["KEYSET"]', '["NONCE"]', "NONCE", "no nonce",
        verdict=Verdict.INCOMPLETE,
    ),
    Row(
        key="log.require_anchored",
        good={"log": "require_anchored = false"},
        bad={"log": "require_anchored = true"},
        check="LOG-INCLUSION LOG-CHECKPOINT EPOCH-QUOTE",
        words="",
        verdict=Verdict.INCOMPLETE,
    ),
    Row(
        key="log.require_complete",
        good={"log": "require_complete = false"},
        bad={"log": "require_complete = true"},
        check="EPOCH-CHAIN",
        words="1 of 2 receipts is not in the file",
        verdict=Verdict.INCOMPLETE,
        of="gap",
    ),
]  # fmt: skip


def pin(key: str, good: bytes | str, bad: bytes | str, of: str = "healthy", **rest: str) -> Row:
    """A row for a value of the tuple; `rest` are further arguments of the policy."""
    told = [quoted(one) if isinstance(one, bytes) else f'"{one}"' for one in (good, bad)]
    return Row(
        key=f"reference_values[].{key}",
        good={key: told[0], **rest},
        bad={key: told[1], **rest},
        check="MEASUREMENTS",
        words=f"{key} ",
        of=of,
    )


def event_row(key: str, words: str, change: Callable[[list[dict[str, str]]], object]) -> Row:
    """A row for the events before the keys; `change` makes the nearest wrong list of them."""
    good, bad = measured(), measured()
    change(bad)
    return Row(
        key=key,
        good={"events": toml_value(good)},
        bad={"events": toml_value(bad)},
        check="EVENT-LOG",
        words=words,
        of="model",
    )


def measured() -> list[dict[str, str]]:
    """What the boot with a model measured before its keys."""
    record = evidence("model").evidence.event_log
    assert record is not None
    events = record.parse().events[:-1]
    return [{"name": event.name, "digest": event.digest.hex()} for event in events]


REGISTERS = Domain().rtmrs
ANOTHER = "RTMR3 holds another event than the matching tuple lists"
PINS = [
    pin("mrtd", Domain().mrtd, off(Domain().mrtd)),
    *(pin(f"rtmr{n}", REGISTERS[n], off(REGISTERS[n])) for n in range(3)),
    pin("rtmr3", SEVEN, off(SEVEN), of="pinned", tdx='unbound_keys = "allow"'),
    *(
        pin(
            key, SEVEN, off(SEVEN), of="configured",
            **{k: quoted(SEVEN) for k in ("mrconfigid", "mrowner", "mrownerconfig") if k != key},
        )
        for key in ("mrconfigid", "mrowner", "mrownerconfig")
    ),
    pin("config_digest", CONFIG_DIGEST.value, off(CONFIG_DIGEST.value)),
    pin("origin", NAME, NAME + "s"),
    pin("image", "registry/gateway:1", "registry/gateway:2", of="image"),
    pin("model", MODEL.value, off(MODEL.value), of="model", events=toml_value(measured())),
    event_row(
        "reference_values[].events", "RTMR3 holds an event that the matching tuple does not list",
        list.pop,
    ),
    event_row(
        "reference_values[].events[].name", ANOTHER,
        lambda events: events[0].update(name=events[0]["name"] + "s"),
    ),
    event_row(
        "reference_values[].events[].digest", ANOTHER,
        lambda events: events[0].update(
            digest=off(bytes.fromhex(events[0]["digest"])).hex()
        ),
    ),
]  # fmt: skip
ROWS = [*TDX, *OTHERS, *PINS]


# Keys that are for people, or for the reader of the file: the file itself is refused.

PEOPLE = {
    "schema": ("appraisal-policy/1", "appraisal-policy/2"),
    "version": ("2027-01", ""),
    "reference_values[].name": ("two", "simulated"),
    "platform.ppid[].label": ("rack 7", ""),
    "platform.piid[].label": ("rack 7", ""),
    "platform.fmspc[].label": ("rack 7", ""),
}
SIZES = {"ppid": 16, "piid": 16, "fmspc": 6}
