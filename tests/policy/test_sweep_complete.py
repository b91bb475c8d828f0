"""Nothing is left out of the sweep: a key that the parser knows and no row names fails here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass

import pytest

from attestation.policy import parse_policy
from attestation.policy.table import Table
from tests.policy.rows import PEOPLE, ROWS

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
    # Who signed the file is not in the file.
    assert [name for name, other in set_somewhere.items() if not other] == ["Policy.signatures"]
