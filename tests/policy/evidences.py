"""Evidence by name, each made once, and what a policy says about it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from attestation.encoding.digest import Digest
from attestation.policy import parse_policy
from attestation.result import AttestationResult, Status, Verdict
from gateway.attester.simulated.facts import (
    Domain,
    Endorsements,
    Machine,
    TcbLevel,
)
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Gateway, failed, open_checks
from tests.support.epochs import EpochLog

AT = NOW + 60
PLATFORM = SimulatedPlatform(
    now=NOW, seed=b"sweep", machine=Machine(ppid=b"p" * 16, piid=b"i" * 16)
)
SEVEN = bytes([7]) * 48
MODEL = Digest.of(b"model.lock")
ISSUED = NOW - 3600
ALL = "0x" + "f" * 16


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
