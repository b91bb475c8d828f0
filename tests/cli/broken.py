"""Bundles that are broken, each in one way, as files and the command that is typed over them.

Everything follows from the seeds of `tests.support`, so that what the command says about a broken
bundle is the same text in every run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from attestation.bundle import EventLogRecord
from attestation.cli.main import main
from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.merkle.tlog_proof import parse_tlog_proof, render
from gateway.attester.simulated.facts import Domain, Endorsements, TcbLevel
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Exchanged, Gateway
from tests.support.epochs import ANCHORED, EpochLog

Tamper = Callable[["Case"], None]
DAY = 86_400


def history(made: Gateway) -> EpochLog:
    """Two epochs, each over one more receipt."""
    log = EpochLog(made)
    for _ in range(2):
        log.serve(nonce="abcdefgh")
        log.quote_epoch()
    return log


def machine(**endorsements: Any) -> SimulatedPlatform:
    """The platform of all cases, and what its Intel says of it."""
    seed = Gateway().secret("platform")
    return SimulatedPlatform(now=NOW, seed=seed, endorsements=Endorsements(**endorsements))


@dataclass(slots=True)
class Case:
    """A folder in the making: an honest log, parts of its bundle to replace, files, arguments."""

    folder: Path
    log: EpochLog = field(default_factory=lambda: history(Gateway()))
    parts: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, str] = field(default_factory=lambda: {"log": ANCHORED})
    edit: Callable[[str], str] = str
    at: int = NOW + 60
    root: bool = True
    bodies: dict[str, bytes] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)

    @property
    def first(self) -> Exchanged:
        return self.log.made.exchanged[0]

    def document(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the bundle's JSON as a value, whatever its producer would have let pass."""

        def changed(text: str) -> str:
            value = json.loads(text)
            change(value)
            return jcs.canonicalize(value).decode()

        self.edit = changed

    def write(self, name: str, data: bytes | str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    def command(self) -> list[str]:
        """Write the files and return the arguments; paths are relative to the folder."""
        made = self.log.made
        self.write("bundle.json", self.edit(self.log.bundle(**self.parts).encode().decode()))
        self.write("policy.toml", made.policy_toml(**self.policy))
        self.write("root.pem", made.anchor.certificate.public_bytes(Encoding.PEM))
        for one in made.exchanged:
            self.write(f"bodies/{one.jti}.request", one.request)
            self.write(f"bodies/{one.jti}.response", one.response)
        for name, data in self.bodies.items():
            self.write(f"bodies/{name}", data)
        root = ["--root", "root.pem"] if self.root else []
        grounds = ["--policy", "policy.toml", *root, "--at", str(self.at), "--contents", "bodies"]
        return ["verify", "bundle.json", *grounds, *self.options]


def nothing(_case: Case) -> None:
    """The bundle that all others are made from."""


def answer_byte(case: Case) -> None:
    case.bodies[f"{case.first.jti}.response"] = case.first.response.replace(b"hi", b"ho")


def request_byte(case: Case) -> None:
    case.bodies[f"{case.first.jti}.request"] = case.first.request.replace(b"1", b"2")


def wrong_nonce(case: Case) -> None:
    case.options = ["--receipt", case.first.jti, "--nonce", "another-nonce"]


def receipt_signature(case: Case) -> None:
    token = case.first.item.receipt.token
    signed, _, signature = token.rpartition(".")
    raw = bytearray(base64url.decode(signature))
    raw[0] ^= 1
    forged = f"{signed}.{base64url.encode(bytes(raw))}"
    case.edit = lambda text: text.replace(token, forged)


def receipt_of_another_boot(case: Case) -> None:
    other = history(Gateway(seed="b", platform=case.log.made.machine))
    case.parts = {"receipts": [*case.log.items, other.items[0]]}


def boot_missing(case: Case) -> None:
    case.parts = {"boots": []}


def epoch_missing(case: Case) -> None:
    case.parts = {"epochs": case.log.epochs[1:]}


def endorsements_stale(case: Case) -> None:
    case.at = NOW + 40 * DAY


def endorsements_rolled_back(case: Case) -> None:
    newer = Case(folder=case.folder, log=history(Gateway(platform=machine(evaluation_number=21))))
    newer.options = case.options = ["--high-water", "seen.json"]
    main(newer.command())


def debug_domain(case: Case) -> None:
    seed = Gateway().secret("platform")
    domain = Domain(td_attributes=1 << 28 | 1)
    case.log = history(Gateway(platform=SimulatedPlatform(now=NOW, seed=seed, domain=domain)))


def other_measurement(case: Case) -> None:
    case.policy["rtmr1"] = f'"{"11" * 48}"'


def other_root(case: Case) -> None:
    case.root = False


def event_removed(case: Case) -> None:
    boot = case.log.made.evidence
    empty = EventLogRecord(format="attested-gateway", data=[])
    case.parts = {"boots": [replace(boot, event_log=empty)]}


def two_key_events(case: Case) -> None:
    case.log = history(Gateway(earlier_keys=1))


def checkpoint_forged(case: Case) -> None:
    log = case.log
    epoch = log.epochs[0]
    size = epoch.statement.size
    forged = log.note(log.checkpoint(size), key=Gateway(seed="thief").log_key)
    case.parts = {"epochs": [replace(epoch, checkpoint=forged), log.epochs[1]]}


def proof_cut(case: Case) -> None:
    item = case.log.items[0]
    assert item.proof is not None
    proof = parse_tlog_proof(item.proof)
    shorter = render(replace(proof, path=proof.path[:-1]))
    case.parts = {"receipts": [replace(item, proof=shorter), *case.log.items[1:]]}


def epochs_swapped(case: Case) -> None:
    one, other = case.log.epochs
    case.parts = {
        "epochs": [
            replace(one, checkpoint=other.checkpoint),
            replace(other, checkpoint=one.checkpoint),
        ]
    }


def equivocation(case: Case) -> None:
    other = EpochLog(Gateway())
    other.serve(jti="f" * 32)
    case.parts = {"receipts": [*case.log.items, *other.items]}


def malformed_json(case: Case) -> None:
    case.edit = lambda text: text.replace(":", "=", 1)


def truncated_file(case: Case) -> None:
    case.edit = lambda text: text[: len(text) // 2]


def member_twice(case: Case) -> None:
    case.edit = lambda text: text.replace("{", '{"boots":[],', 1)


def not_canonical(case: Case) -> None:
    case.edit = lambda text: json.dumps(json.loads(text), indent=1)


def unknown_member(case: Case) -> None:
    case.document(lambda value: value.update({"verdict": "ACCEPTED"}))


def quote_not_canonical(case: Case) -> None:
    boot = case.log.made.evidence
    case.parts = {"boots": [replace(boot, quote=boot.quote + bytes(8))]}


def base64_not_canonical(case: Case) -> None:
    def padded(value: dict[str, Any]) -> None:
        value["boots"][0]["quote"] += "="

    case.document(padded)


def unknown_policy_key(case: Case) -> None:
    case.policy["tdx"] = "tcb_statuses = ['UpToDate']"


def expired_status_entry(case: Case) -> None:
    old = machine(levels=(TcbLevel(status="OutOfDate", advisories=("INTEL-SA-00001",)),))
    case.log = history(Gateway(platform=old))
    case.policy["tdx"] = (
        'tcb_status = ["UpToDate", { status = "OutOfDate", until = 2026-01-31 }]\n'
        'advisories = [{ id = "INTEL-SA-00001", until = 2030-01-31 }]'
    )


def model_claimed(case: Case) -> None:
    """The boot statement names a model; nothing of it was measured."""
    changes = {"model_digest": Digest.of(b"a model that was never measured")}
    case.log = history(Gateway(statement_changes=changes, measured=()))


def quote_byte(case: Case) -> None:
    boot = case.log.made.evidence
    changed = bytearray(boot.quote)
    changed[200] ^= 1
    case.parts = {"boots": [replace(boot, quote=bytes(changed))]}


BROKEN: dict[str, Tamper] = {
    made.__name__.replace("_", "-"): made
    for made in (
        nothing,
        answer_byte,
        request_byte,
        wrong_nonce,
        receipt_signature,
        receipt_of_another_boot,
        boot_missing,
        epoch_missing,
        endorsements_stale,
        endorsements_rolled_back,
        debug_domain,
        other_measurement,
        other_root,
        event_removed,
        two_key_events,
        checkpoint_forged,
        proof_cut,
        epochs_swapped,
        equivocation,
        malformed_json,
        truncated_file,
        member_twice,
        not_canonical,
        unknown_member,
        quote_not_canonical,
        base64_not_canonical,
        unknown_policy_key,
        expired_status_entry,
        model_claimed,
        quote_byte,
    )
}
