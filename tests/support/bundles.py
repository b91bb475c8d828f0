"""A gateway boot made by hand: simulated platform, real keys, real receipts, in milliseconds.

Everything follows from `seed`, so that a red test stays red.  `Gateway` makes one boot; `seal`
makes receipts; `bundle` and `policy` give what `verify` wants.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.bundle import (
    BootEvidence,
    Bundle,
    BundledReceipt,
    EventLogRecord,
    make_bundle,
    parse_bundle,
)
from attestation.encoding.digest import Digest
from attestation.encoding.jwk import Jwk, thumbprint
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note, vkey_for
from attestation.merkle.tlog_proof import TlogProof, render
from attestation.merkle.tree import inclusion_path, leaf_hash, root_hash
from attestation.policy import Policy, parse_policy
from attestation.receipt.block import render_block
from attestation.receipt.claims import Attempt, End, Usage
from attestation.receipt.outcome import Body, LineageContext, ModelFacts, Outcome
from attestation.receipt.seal import SealContext, claims_of
from attestation.receipt.signing import parse_receipt, sign_receipt
from attestation.result import AttestationResult, Check, Status, Verdict
from attestation.statement import BootStatement, Keyset, PreviousBoot, log_origin
from attestation.statement.model_lock import MeasuredModel
from attestation.tdx.anchor import Anchor
from attestation.tdx.eventlog import KeyEvent, MeasuredEvent
from attestation.tdx.events import extend
from attestation.tdx.quote import canonical_quote
from attestation.verifier import BODY_CHECKS, Contents, verify
from gateway.attester.simulated.facts import Domain
from gateway.attester.simulated.platform import SimulatedPlatform

NOW = 1_790_000_000
NAME = "gateway.example"
CHAT = "/v1/chat/completions"
REQUEST = b'{"model":"tiny","messages":[{"role":"user","content":"hello"}]}'
ANSWER = b'{"id":"chatcmpl-1","choices":[{"message":{"content":"hi"}}]}'
FRAMES = (b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n")
CONFIG_DIGEST = Digest.of(b"settings")
TLS_SPKI = Digest.of(b"tls key")
ENGINE_ARGUMENTS = Digest.of(b'["--max-model-len=4096"]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """A receipt with the bodies that its caller holds; the answer has its in-band block."""

    item: BundledReceipt
    request: bytes
    response: bytes
    engine: bytes | None = None
    nonce: str | None = None

    @property
    def jti(self) -> str:
        return self.item.jti

    def contents(self, **changes: Any) -> Contents:
        """What the caller knows, with every body check demanded."""
        known = Contents(
            request=self.request,
            response=self.response,
            engine=self.engine,
            nonce=self.nonce,
            demanded=BODY_CHECKS,
        )
        return replace(known, **changes)


def model_events(
    model: Digest, arguments: Digest = ENGINE_ARGUMENTS
) -> tuple[MeasuredEvent, MeasuredEvent]:
    """Return what a gateway measures of its model."""
    return (
        MeasuredEvent(name="model.lock", sha256=model),
        MeasuredEvent(name="engine.args", sha256=arguments),
    )


@dataclass(slots=True)
class Gateway:
    """One boot of a gateway on one simulated platform."""

    seed: str = "a"
    version: int = 4
    platform: SimulatedPlatform | None = None
    tls: tuple[Digest, ...] = (TLS_SPKI,)
    not_after: int = NOW + 86_400
    event_log: bool = True
    earlier_keys: int = 0
    measured: tuple[MeasuredEvent, ...] | None = None
    prev: PreviousBoot | None = None
    statement_changes: Mapping[str, Any] = field(default_factory=dict)
    exchanged: list[Exchanged] = field(default_factory=list)
    evidence: BootEvidence = field(init=False)
    keyset: Keyset = field(init=False)

    def __post_init__(self) -> None:
        self.platform = self.platform or SimulatedPlatform(
            now=NOW, version=self.version, seed=self.secret("platform")
        )
        self.keyset = Keyset(
            log_vkey=vkey_for(self.origin, self.log_key.public_key().public_bytes_raw()),
            not_after=self.not_after,
            receipt_key=self.receipt_jwk,
            tls_spki=self.tls,
        )
        statement = BootStatement(
            bootseed=self.bootseed,
            keyset_digest=self.keyset.digest,
            log_origin=self.origin,
            config_digest=CONFIG_DIGEST,
            time_claimed=NOW,
            prev=self.prev,
        )
        self.boot(replace(statement, **self.statement_changes))

    def boot(self, statement: BootStatement) -> None:
        """Have `statement` quoted, RTMR3 extended before."""
        events: list[MeasuredEvent | KeyEvent] = [*self.measured_events(statement)]
        events += [
            KeyEvent(bootseed=bytes([n]) * 32, keyset_digest=Digest.of(bytes([n])), n=n + 1)
            for n in range(self.earlier_keys)
        ]
        events.append(
            KeyEvent(
                bootseed=self.bootseed, keyset_digest=self.keyset.digest, n=self.earlier_keys + 1
            )
        )
        record = EventLogRecord(
            format="attested-gateway", data=[event.to_json() for event in events]
        )
        digests = [event.digest for event in events] if self.event_log else []
        self.evidence = BootEvidence(
            statement=statement,
            keyset=self.keyset,
            quote=self.quote(statement.report_data, digests),
            event_log=record if self.event_log else None,
            collateral=self.machine.collateral().digest,
        )

    def measured_events(self, statement: BootStatement) -> tuple[MeasuredEvent, ...]:
        """Return what is measured before the keys: by default what the statement names."""
        if self.measured is not None:
            return self.measured
        if statement.model_digest is None or not self.event_log:
            return ()
        return model_events(statement.model_digest)

    def quote(self, report_data: bytes, digests: list[bytes]) -> bytes:
        """Return a canonical quote whose RTMR3 was extended by `digests`."""
        domain: Domain = self.machine.domain
        register = domain.rtmrs[3]
        for digest in digests:
            register = extend(register, digest)
        shown = replace(domain, rtmrs=(*domain.rtmrs[:3], register))
        return canonical_quote(self.machine.quote(report_data, domain=shown))

    def secret(self, label: str) -> bytes:
        return hashlib.sha256(f"{self.seed}/{label}".encode()).digest()

    @property
    def machine(self) -> SimulatedPlatform:
        assert self.platform is not None
        return self.platform

    @property
    def anchor(self) -> Anchor:
        return self.machine.anchor

    @property
    def bootseed(self) -> bytes:
        return self.secret("bootseed")

    @property
    def origin(self) -> str:
        return log_origin(NAME, self.bootseed)

    @property
    def receipt_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret("receipt"))

    @property
    def log_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret("log"))

    @property
    def receipt_jwk(self) -> Jwk:
        raw = self.receipt_key.public_key().public_bytes_raw()
        return Jwk(raw=raw, kid=thumbprint(raw))

    @property
    def quote_digest(self) -> Digest:
        size = 632 if self.evidence.quote[0] == 4 else 702
        return Digest.of(self.evidence.quote[:size])

    def context(self, index: int) -> SealContext:
        """Return what the notary of this boot would seal receipt `index` with."""
        return SealContext(
            issuer=NAME,
            issued_at=NOW + index,
            bootseed=self.bootseed,
            boot_secret=self.secret("commitments"),
            keyset_digest=self.keyset.digest,
            debug="enabled" if self.machine.domain.td_attributes & 1 else "disabled",
            provider="simulated",
            quote_digest=self.quote_digest,
            log_origin=self.origin,
            index=index,
            admission=index - 1,
            call=0,
            previous=None,
            model=self.model,
        )

    @property
    def model(self) -> MeasuredModel | None:
        """What the notary of this boot knows of its model."""
        digest = self.evidence.statement.model_digest
        if digest is None:
            return None
        return MeasuredModel(
            digest=digest, engine="demo-engine/1", arguments_digest=ENGINE_ARGUMENTS
        )

    def outcome(
        self, request: bytes = REQUEST, response: bytes = ANSWER, **changes: Any
    ) -> Outcome:
        """Return a complete plain exchange, with `changes`."""
        number = len(self.exchanged) + 1
        outcome = Outcome(
            jti=self.secret(f"jti/{number}").hex()[:32],
            method="POST",
            path=CHAT,
            sub=Digest.of(b"key"),
            grant_digest=Digest.of(b"grant"),
            lineage=LineageContext(txn="task", span="00f067aa0ba902b7"),
            inline=False,
            end=End.COMPLETE,
            decision="allow",
            request=Body(digest=Digest.of(request), length=len(request)),
            request_type="application/json",
            status=200,
            response=Body(digest=Digest.of(response), length=len(response)),
            response_type="application/json",
            finish_reasons=("stop",),
            model=ModelFacts(id="tiny", served="tiny", engine="demo-engine/1"),
            usage=Usage(input=3, output=2, total=5),
            attempts=(Attempt(upstream="engine", local=True, outcome="ok", milliseconds=7),),
        )
        return replace(outcome, **changes)

    def seal(self, outcome: Outcome, **context: Any) -> BundledReceipt:
        """Return the signed receipt and its openings; `context` changes what the notary says."""
        claims, openings = claims_of(
            outcome, replace(self.context(len(self.exchanged) + 1), **context)
        )
        token = sign_receipt(claims, self.receipt_key, self.receipt_jwk.kid)
        return BundledReceipt(receipt=parse_receipt(token), openings=openings)

    def plain(
        self,
        request: bytes = REQUEST,
        response: bytes = ANSWER,
        *,
        engine: bytes | None = None,
        context: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Exchanged:
        """Add a plain exchange."""
        if engine is not None:
            changes["engine"] = Body(digest=Digest.of(engine), length=len(engine))
        outcome = self.outcome(request, response, **changes)
        item = self.seal(outcome, **(context or {}))
        return self._add(item, request, response, engine=engine, nonce=outcome.nonce)

    def stream(self, frames: tuple[bytes, ...] = FRAMES, **changes: Any) -> Exchanged:
        """Add a stream whose receipt stands directly before its last frame."""
        body, offset = b"".join(frames), len(b"".join(frames[:-1]))
        outcome = self.outcome(
            REQUEST,
            body,
            inline=True,
            block_offset=offset,
            events=len(frames),
            response_type="text/event-stream",
            **changes,
        )
        item = self.seal(outcome)
        assert item.openings is not None
        block = render_block(item.receipt.token, item.openings)
        received = body[:offset] + block + body[offset:]
        return self._add(item, REQUEST, received, nonce=outcome.nonce)

    def _add(self, item: BundledReceipt, request: bytes, response: bytes, **more: Any) -> Exchanged:
        exchanged = Exchanged(item=item, request=request, response=response, **more)
        self.exchanged.append(exchanged)
        return exchanged

    def anchored(self) -> None:
        """Give every receipt so far an inclusion proof in one signed checkpoint."""
        leaves = [leaf_hash(b"\x00" + self.evidence.statement.digest.value)]
        leaves += [leaf_hash(b"\x01" + e.item.receipt.digest.value) for e in self.exchanged]
        checkpoint = Checkpoint(origin=self.origin, size=len(leaves), root=root_hash(leaves))
        note = sign_note(checkpoint.text, self.origin, self.log_key)
        for place, exchanged in enumerate(self.exchanged):
            path = tuple(inclusion_path(place + 1, leaves))
            proof = render(TlogProof(extra=None, index=place + 1, path=path, note=note))
            self.exchanged[place] = replace(exchanged, item=replace(exchanged.item, proof=proof))

    def bundle(self, **changes: Any) -> Bundle:
        """Return the bundle of this boot and its receipts, having been written and read back."""
        parts: dict[str, Any] = {
            "boots": [self.evidence],
            "collateral": [self.machine.collateral()],
            "receipts": [exchanged.item for exchanged in self.exchanged],
        }
        return parse_bundle(make_bundle(**parts | changes).encode())

    def contents(self) -> dict[str, Contents]:
        """Return what the caller knows of every exchange."""
        return {exchanged.jti: exchanged.contents() for exchanged in self.exchanged}

    def policy(self, *, log: str = "require_anchored = false", **changes: str) -> Policy:
        """Return a policy that pins this boot's software."""
        return parse_policy(self.policy_toml(log=log, **changes).encode())

    def policy_toml(
        self, *, log: str = "require_anchored = false", tdx: str = "", more: str = "", **pins: str
    ) -> str:
        """Return that policy's text; `pins` replace keys of the tuple, TOML values as text."""
        domain = self.machine.domain
        values = {
            "name": '"simulated"',
            "mrtd": f'"{domain.mrtd.hex()}"',
            "rtmr0": f'"{domain.rtmrs[0].hex()}"',
            "rtmr1": f'"{domain.rtmrs[1].hex()}"',
            "rtmr2": f'"{domain.rtmrs[2].hex()}"',
            "rtmr3": '"replay"',
        }
        if listed := self.measured_events(self.evidence.statement):
            digests = (f'{{ name = "{e.name}", digest = "{e.digest.hex()}" }}' for e in listed)
            values["events"] = f"[{', '.join(digests)}]"
        values |= pins
        lines = "\n".join(f"{key} = {value}" for key, value in values.items())
        return (
            'schema = "appraisal-policy/1"\n'
            f"[tdx]\n{tdx}\n[log]\n{log}\n{more}\n[[reference_values]]\n{lines}\n"
        )

    def verify(self, **changes: Any) -> AttestationResult:
        """Verify this boot's bundle with its policy, root and bodies, with `changes`."""
        arguments: dict[str, Any] = {
            "bundle": changes.pop("bundle", None) or self.bundle(),
            "policy": self.policy(),
            "at": NOW + 60,
            "anchors": [self.anchor],
            "contents": self.contents(),
        }
        return said_once(verify(**arguments | changes))


def said_once(result: AttestationResult) -> AttestationResult:
    """Return the result, in which no check on one boot has ended twice.

    Two epochs or receipts may have one name, where somebody lies.
    """
    boots = [one for one in result.checks if one.subject.startswith("boot ")]
    ended = [(one.id, one.subject) for one in boots if one.status is not Status.INFO]
    assert len(ended) == len(set(ended))
    return result


def the_check(result: AttestationResult, id_: str, *, number: int = 0) -> Check:
    """Return the check with this id; of several (one a subject) the one asked for."""
    return [check for check in result.checks if check.id == id_][number]


def failed(result: AttestationResult) -> set[str]:
    """Return the ids of the checks that failed."""
    return {check.id for check in result.checks if check.status is Status.FAIL}


def open_checks(result: AttestationResult) -> set[str]:
    """Return the ids of the checks that make the result INCOMPLETE."""
    return {check.id for check in result.checks if check.verdict is Verdict.INCOMPLETE}
