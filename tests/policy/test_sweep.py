"""Every key of a policy, both ways: what it should accept, and the nearest thing it should not.

One row a key.  Evidence and policy of a row differ in nothing but that key between the two ways:
one bit, one digit, one second, one entry.  A key that the parser knows and no row names fails
the last tests of this file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import pytest

from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.policy import parse_policy
from attestation.policy.table import Table
from attestation.policy.toml import toml_value
from attestation.result import AttestationResult, Status, Verdict
from gateway.attester.simulated.facts import (
    DAY,
    TEE_TCB_SVN,
    Domain,
    Endorsements,
    Machine,
    TcbLevel,
)
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import CONFIG_DIGEST, NAME, NOW, Gateway, failed, open_checks
from tests.support.epochs import EpochLog

AT = NOW + 60
PLATFORM = SimulatedPlatform(
    now=NOW, seed=b"sweep", machine=Machine(ppid=b"p" * 16, piid=b"i" * 16)
)
SEVEN = bytes([7]) * 48
MODEL = Digest.of(b"model.lock")
ISSUED = NOW - 3600
ALL = "0x" + "f" * 16


# Evidence, by name; each is made once.


def boot(*, event_log: bool = True, earlier: int = 0, says: Any = None, **facts: Any) -> Gateway:
    made = Gateway(
        platform=PLATFORM.but(**facts),
        event_log=event_log,
        earlier_keys=earlier,
        statement_changes=says or {},
    )
    made.plain()
    return made


def level(status: str = "UpToDate", *advisories: str) -> Endorsements:
    return Endorsements(levels=(TcbLevel(status=status, advisories=advisories),))


EVIDENCE: dict[str, Callable[[], Gateway]] = {
    "healthy": boot,
    "hardening": lambda: boot(endorsements=level("SWHardeningNeeded")),
    "out of date": lambda: boot(endorsements=level("OutOfDate")),
    "two advisories": lambda: boot(
        endorsements=level("UpToDate", "INTEL-SA-00001", "INTEL-SA-00002")
    ),
    "one advisory": lambda: boot(endorsements=level("UpToDate", "INTEL-SA-00001")),
    "protection keys": lambda: boot(domain=Domain(td_attributes=1 << 28 | 1 << 30)),
    "unbound": lambda: boot(event_log=False),
    "second start": lambda: boot(earlier=1),
    "pinned": lambda: boot(event_log=False, domain=Domain(rtmrs=(*Domain().rtmrs[:3], SEVEN))),
    "configured": lambda: boot(
        domain=Domain(mr_config_id=SEVEN, mr_owner=SEVEN, mr_owner_config=SEVEN)
    ),
    "image": lambda: boot(says={"image": "registry/gateway:1"}),
    "model": lambda: boot(says={"model_digest": MODEL}),
    "other words": lambda: boot(domain=Domain(xfam=0x600E7)),
    "wrong words": lambda: boot(domain=Domain(xfam=0x600E6)),
    "one bit configured": lambda: boot(domain=Domain(mr_config_id=off(bytes(48)))),
    "one bit owned": lambda: boot(domain=Domain(mr_owner=off(bytes(48)))),
    "one bit owner configured": lambda: boot(domain=Domain(mr_owner_config=off(bytes(48)))),
    "plain machine": lambda: boot(machine=machine()),
    "dynamic": lambda: boot(machine=machine(dynamic_platform=True)),
    "cached": lambda: boot(machine=machine(cached_keys=True)),
    "smt": lambda: boot(machine=machine(smt_enabled=True)),
    "single package": lambda: boot(machine=Machine(ppid=b"p" * 16, single_package=True)),
}


def machine(**changes: bool) -> Machine:
    """A machine with none of the properties that a policy may refuse, or with one of them."""
    plain: dict[str, Any] = dict.fromkeys(("dynamic_platform", "cached_keys", "smt_enabled"), False)
    return Machine(ppid=b"p" * 16, piid=b"i" * 16, **plain | changes)


def off(value: bytes) -> bytes:
    """The value with its last bit changed."""
    return value[:-1] + bytes([value[-1] ^ 1])


@cache
def evidence(name: str) -> Gateway:
    return EVIDENCE[name]()


@cache
def whole() -> EpochLog:
    """A quoted log of two receipts; of the evidence "gap" one of them is left out."""
    log = EpochLog(Gateway(platform=PLATFORM))
    log.serve(2)
    log.quote_epoch()
    return log


# The table.


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
        words="1 of 2 receipts are not in the file",
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


def judged(of: str, lines: dict[str, str], at: int = AT) -> AttestationResult:
    # Always the policy of the healthy boot: it lists nothing that other evidence might bring.
    policy = parse_policy(evidence("healthy").policy_toml(**lines).encode())
    if of == "whole":
        return whole().verify(policy=policy, at=at)
    if of == "gap":
        return whole().verify(policy=policy, at=at, receipts=whole().items[:1], contents={})
    return evidence(of).verify(policy=policy, at=at)


def require_accepted(result: AttestationResult) -> None:
    assert result.verdict is Verdict.SIMULATED, [
        check for check in result.checks if check.verdict is not Verdict.ACCEPTED
    ]
    assert not failed(result)


def require_refused(result: AttestationResult, verdict: Verdict, ids: str, words: str) -> None:
    assert result.verdict is verdict
    wrong = open_checks(result) if verdict is Verdict.INCOMPLETE else failed(result)
    assert wrong == set(ids.split())
    for check in result.checks:
        if check.id in wrong and check.status in (Status.FAIL, Status.SKIP):
            assert words in f"{check.reason} {check.expected} {check.observed}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_evidence_that_a_key_should_accept_is_accepted(row: Row) -> None:
    require_accepted(judged(row.of, row.good, row.at))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_nearest_wrong_value_is_refused_by_the_check_of_its_key(row: Row) -> None:
    require_refused(judged(row.of, row.bad, row.at), row.verdict, row.check, row.words)


# The strict values and the defaults, under which the evidence differs instead of the policy.

INCOMPLETE = Verdict.INCOMPLETE
REFUSE = '[platform]\n{} = "refuse"'
STRICT: dict[str, tuple[dict[str, str], str, str, str, str]] = {
    "no tcb_status": ({}, "healthy", "hardening", "TCB-STATUS", "the platform is SWHardening"),
    "no advisories": ({}, "healthy", "one advisory", "TCB-ADVISORIES", "INTEL-SA-00001"),
    "no attributes": ({}, "healthy", "protection keys", "TD-ATTRIBUTES", "0x50000000"),
    "no xfam": ({}, "other words", "wrong words", "TD-ATTRIBUTES", "0x600e6"),
    "no unbound_keys": ({}, "healthy", "unbound", "EVENT-LOG", "does not bind"),
    "no max_key_events": ({}, "healthy", "second start", "EVENT-LOG", "started more often"),
    "no events": ({}, "healthy", "model", "EVENT-LOG", "does not list"),
    "no mrconfigid": ({}, "healthy", "one bit configured", "MEASUREMENTS", "mrconfigid "),
    "no mrowner": ({}, "healthy", "one bit owned", "MEASUREMENTS", "mrowner "),
    "no mrownerconfig": (
        {}, "healthy", "one bit owner configured", "MEASUREMENTS", "mrownerconfig ",
    ),
    "unbound_keys refused": (
        {"tdx": 'unbound_keys = "refuse"'}, "healthy", "unbound", "EVENT-LOG", "does not bind",
    ),
    "dynamic_platform refused": (
        {"more": REFUSE.format("dynamic_platform")}, "plain machine", "dynamic", "PLATFORM",
        "says dynamic platform",
    ),
    "cached_keys refused": (
        {"more": REFUSE.format("cached_keys")}, "plain machine", "cached", "PLATFORM",
        "says cached keys",
    ),
    "smt refused": (
        {"more": REFUSE.format("smt")}, "plain machine", "smt", "PLATFORM", "says SMT",
    ),
    "smt refused, certificate silent": (
        {"more": REFUSE.format("smt")}, "plain machine", "single package", "PLATFORM",
        "does not say",
    ),
    "piid listed, certificate silent": (
        {"more": f'[platform]\npiid = ["{(b"i" * 16).hex()}"]'}, "healthy", "single package",
        "PLATFORM", "machine's piid is not on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STRICT)
def test_strict_value_or_default_accepts_what_meets_it_and_nothing_beside(name: str) -> None:
    lines, good, bad, check, words = STRICT[name]
    require_accepted(judged(good, lines))
    require_refused(judged(bad, lines), Verdict.NOT_ACCEPTED, check, words)


@pytest.mark.parametrize("log", ["", "require_anchored = true"])
def test_anchored_receipts_meet_the_demand_and_others_leave_it_open(log: str) -> None:
    require_accepted(judged("whole", {"log": log}))
    ids = "LOG-INCLUSION LOG-CHECKPOINT EPOCH-QUOTE"
    require_refused(judged("healthy", {"log": log}), INCOMPLETE, ids, "")


def test_whole_log_meets_the_demand_for_completeness() -> None:
    require_accepted(judged("whole", {"log": "require_complete = true"}))


def test_nonce_that_was_compared_meets_the_demand_for_it() -> None:
    made = Gateway(platform=PLATFORM)
    made.plain(nonce="abcdefgh")
    policy = made.policy(more='[require]\nchecks = ["NONCE"]')
    require_accepted(made.verify(policy=policy))


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


def with_text(key: str, text: str) -> bytes:
    plain = evidence("healthy").policy_toml(more='[platform]\nppid = ["' + b"p".hex() * 16 + '"]')
    if key == "schema":
        plain = plain.replace("appraisal-policy/1", text)
    elif key == "version":
        plain = f'version = "{text}"\n{plain}'
    elif key == "reference_values[].name":
        plain += plain[plain.index("[[reference") :].replace("simulated", text)
    else:
        name = key.split(".")[1].removesuffix("[]")
        more = f'[platform]\n{name} = [{{ value = "{"00" * SIZES[name]}", label = "{text}" }}]'
        plain = evidence("healthy").policy_toml(more=more)
    return plain.encode()


@pytest.mark.parametrize("key", PEOPLE)
def test_text_for_people_is_read_and_an_unusable_one_refused_by_its_path(key: str) -> None:
    good, bad = PEOPLE[key]
    assert parse_policy(with_text(key, good)).reference_values
    with pytest.raises(MalformedError) as caught:
        parse_policy(with_text(key, bad))
    path = re.escape(key.replace("[].name", "")).replace(r"\[\]", r"\[\d+\]")
    assert re.search(path, caught.value.message)
    assert caught.value.exit_code == Verdict.MALFORMED.exit_code


# Nothing is left out.

MACHINE = '{{ value = "{}", label = "rack", from = 1, until = 2 }}'
EVERYTHING = f"""
schema = "appraisal-policy/1"
version = "1"
[tdx]
tcb_status = ["UpToDate", {{ status = "OutOfDate", until = 1 }}]
advisories = [{{ id = "INTEL-SA-00001", until = 1 }}]
min_tcb_evaluation_number = 1
min_tcb_date = 1
min_tee_tcb_svn = "{"01" * 16}"
attributes = {{ value = 0, mask = 1 }}
xfam = [3]
mrseam = ["{"01" * 48}"]
unbound_keys = "allow"
max_key_events = 2
[endorsements]
max_age_days = 1
[platform]
ppid = ["{"01" * 16}", {MACHINE.format("01" * 16)}]
piid = [{MACHINE.format("01" * 16)}]
fmspc = [{MACHINE.format("01" * 6)}]
sgx_type = ["standard"]
dynamic_platform = "refuse"
cached_keys = "refuse"
smt = "refuse"
[gpu]
required = true
[log]
require_anchored = false
require_complete = true
[lineage]
require_complete = true
[require]
checks = ["NONCE"]
[[reference_values]]
name = "one"
mrtd = "{"01" * 48}"
rtmr0 = "{"01" * 48}"
rtmr1 = "{"01" * 48}"
rtmr2 = "{"01" * 48}"
rtmr3 = "replay"
events = [{{ name = "one", digest = "{"01" * 48}" }}]
mrconfigid = "{"01" * 48}"
mrowner = "{"01" * 48}"
mrownerconfig = "{"01" * 48}"
config_digest = "{"01" * 32}"
origin = "one"
image = "one"
model = "{"01" * 32}"
"""
TABLES = {
    "tdx", "endorsements", "platform", "gpu", "log", "lineage", "require", "reference_values",
}  # fmt: skip
"""Keys that hold other keys and nothing else."""


def known_keys(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every key that the parser asks about while it reads a policy that has all of them."""
    asked: set[str] = set()
    plain = Table.has

    def has(self: Table, key: str) -> bool:
        asked.add(re.sub(r"\[\d+\]", "[]", self.name_of(key)))
        return plain(self, key)

    monkeypatch.setattr(Table, "has", has)
    parse_policy(EVERYTHING.encode())
    return asked


def test_every_key_that_the_parser_knows_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    swept = [row.key for row in ROWS] + list(PEOPLE)
    assert len(set(swept)) == len(swept)
    assert known_keys(monkeypatch) - TABLES == set(swept)


def test_tables_hold_keys_and_nothing_else() -> None:
    document = tomllib.loads(EVERYTHING)
    for name in TABLES:
        value = document[name]
        assert isinstance(value, dict) or all(isinstance(item, dict) for item in value)


def values_of(value: object) -> Iterator[tuple[str, bool]]:
    """Every field below a policy with a default, and whether it has another value here."""
    if isinstance(value, tuple | frozenset):
        for item in value:
            yield from values_of(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            own = getattr(value, field.name)
            if field.default is not MISSING:
                yield f"{type(value).__name__}.{field.name}", own != field.default
            yield from values_of(own)


def test_the_policy_with_everything_leaves_no_field_at_its_default() -> None:
    policy = parse_policy(EVERYTHING.encode())
    set_somewhere: dict[str, bool] = {}
    for name, other in values_of(policy):
        set_somewhere[name] = set_somewhere.get(name, False) or other
    assert set_somewhere.keys() > {"Policy.version", "ListedMachine.until", "TdxRules.mrseam"}
    assert [name for name, other in set_somewhere.items() if not other] == []
