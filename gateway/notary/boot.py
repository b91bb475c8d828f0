"""Starting a boot: fresh secrets, a keyset, the RTMR3 event, the boot statement and its quote."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.bundle import BootEvidence, EventLogRecord
from attestation.encoding.jwk import Jwk, thumbprint
from attestation.errors import UnavailableError
from attestation.merkle.note import vkey_for
from attestation.statement import BootStatement, Keyset, log_origin
from attestation.statement.model_lock import ENGINE_ARGS_EVENT, MODEL_LOCK_EVENT
from attestation.tdx.eventlog import KeyEvent, MeasuredEvent
from attestation.tdx.identity import identity_of
from attestation.tdx.launch import GATEWAY_CONFIG
from attestation.tdx.quote import Quote, canonical_quote, parse_quote
from attestation.tdx.signatures import own_checks
from attestation.verifier.model import NOTHING_MEASURED, MeasuredDigests, measured_digests
from gateway.notary.kept_log import extend_kept_log, require_kept_log
from gateway.notary.runtime_log import RuntimeLog

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.encoding.digest import Digest
    from attestation.statement import PreviousBoot
    from attestation.statement.model_lock import MeasuredModel
    from gateway.attester.base import QuoteProvider

SEED_BYTES = 32
_CACHE_SALT_CONTEXT = b"attested-gateway/cache-salt-key/v1"
_RTMR3 = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPlan:
    """What is fixed before a boot starts.  `not_after` and `now` are unix seconds.

    `tls_spki` are the digests of the TLS keys that were made for this boot, `runtime_log` the
    file in which earlier boots of this TD noted their RTMR3 events (None: there were none),
    `prev` the boot before this one by the data folder (None: there is none), `model` what is to be
    measured of the model behind the engine's Unix socket (None: nothing).
    """

    name: str
    config_digest: Digest
    tls_spki: tuple[Digest, ...]
    not_after: int
    now: int
    image: str | None = None
    runtime_log: Path | None = None
    prev: PreviousBoot | None = None
    model: MeasuredModel | None = None

    @property
    def measured(self) -> tuple[MeasuredEvent, ...]:
        """What extends RTMR3 before the keys, where the platform can."""
        if self.model is None:
            return ()
        return (
            MeasuredEvent(name=MODEL_LOCK_EVENT, sha256=self.model.digest),
            MeasuredEvent(name=ENGINE_ARGS_EVENT, sha256=self.model.arguments_digest),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSecrets:
    """What a boot draws and never stores.  `commitment` is the boot secret of SPEC section 1."""

    bootseed: bytes
    commitment: bytes = field(repr=False)
    receipt_key: Ed25519PrivateKey = field(repr=False)
    log_key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def draw(cls) -> BootSecrets:
        """Return fresh secrets from the operating system's random numbers."""
        return cls(
            bootseed=secrets.token_bytes(SEED_BYTES),
            commitment=secrets.token_bytes(SEED_BYTES),
            receipt_key=Ed25519PrivateKey.generate(),
            log_key=Ed25519PrivateKey.generate(),
        )

    @property
    def receipt_jwk(self) -> Jwk:
        """The public half of the receipt key."""
        raw = self.receipt_key.public_key().public_bytes_raw()
        return Jwk(raw=raw, kid=thumbprint(raw))

    @property
    def cache_salt_key(self) -> bytes:
        """The 32-byte key of this boot's cache salts (docs/spec/admission.md)."""
        return hmac.digest(self.commitment, _CACHE_SALT_CONTEXT, "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedBoot:
    """A boot whose statement is quoted, with the quote as bytes in `evidence` and parsed.

    `model` is what RTMR3 and the statement say of its model (None: nothing was measured).
    """

    evidence: BootEvidence
    quote: Quote
    model: MeasuredModel | None = None

    @property
    def dbgstat(self) -> str:
        """The claim of the same name, from the quote's attributes."""
        return "enabled" if self.quote.debug else "disabled"


def start_boot(provider: QuoteProvider, plan: BootPlan, drawn: BootSecrets) -> StartedBoot:
    """Return the quoted boot.  Blocks for as long as the platform takes for one quote.

    1. the keyset: receipt key, log key named after this boot's log, TLS keys
    2. where the platform can: the model, if this start is the first in the TD's life, then the
       event `receipt.key` extend RTMR3, after the log of earlier events was seen to replay to the
       register's present value; a platform that keeps the log itself (dstack) is handed the
       events, and its log is what the bundle carries
    3. the boot statement; what an image noted for RTMR3 is in it where nobody can extend that
    4. its quote, in canonical form
    5. the quote's own look: its report data, its signatures, RTMR3, and that its events name the
       model of the statement

    Raises `UnavailableError`; a boot that cannot be proved does not start.
    """
    origin = log_origin(plan.name, drawn.bootseed)
    keyset = Keyset(
        log_vkey=vkey_for(origin, drawn.log_key.public_key().public_bytes_raw()),
        not_after=plan.not_after,
        receipt_key=drawn.receipt_jwk,
        tls_spki=plan.tls_spki,
    )
    measured = _measure(provider, plan, drawn.bootseed, keyset.digest)
    model = None if measured is None else plan.model
    statement = BootStatement(
        bootseed=drawn.bootseed,
        keyset_digest=keyset.digest,
        log_origin=origin,
        config_digest=plan.config_digest,
        model_digest=None if model is None else model.digest,
        image=plan.image,
        time_claimed=plan.now,
        prev=plan.prev,
        unextended=_stated(provider, plan),
    )
    quote = parse_quote(canonical_quote(provider.quote(statement.report_data)))
    _require_own_look(quote, statement)
    evidence = BootEvidence(
        statement=statement,
        keyset=keyset,
        quote=quote.raw,
        event_log=_shown_log(provider, measured, quote),
    )
    _require_one_model(evidence, quote, model)
    return StartedBoot(evidence=evidence, quote=quote, model=model)


def require_same_domain(quote: Quote, boot_quote: Quote) -> None:
    """Raise `UnavailableError` unless both quotes show one TD on one platform (SPEC section 1)."""
    if identity_of(quote) != identity_of(boot_quote):
        raise UnavailableError(
            "a quote shows another trust domain than the boot quote",
            code="td_changed",
            expected="the measurements, attributes and platform of the boot quote",
            hint="the notary ends this boot; look for what extended RTMR3",
        )


def _measure(
    provider: QuoteProvider, plan: BootPlan, bootseed: bytes, keyset_digest: Digest
) -> RuntimeLog | KeyEvent | None:
    """Extend RTMR3 where that is possible; return our own log, or our event in the platform's."""
    if not provider.can_extend_rtmr3:
        return None
    kept = provider.event_log()
    if kept is not None:
        return extend_kept_log(
            provider, kept, measured=plan.measured, bootseed=bootseed, keyset_digest=keyset_digest
        )
    before = RuntimeLog.load(plan.runtime_log)
    pending = before.unextended(provider.read_rtmr3())
    _require_these_settings(before.measured, plan)
    log = before.with_start(bootseed, keyset_digest, plan.measured)
    for event in (*pending, *log.events[len(before.events) :]):
        provider.extend_rtmr3(event.digest, name=event.name, content=event.content)
    # Stored after the extensions: a crash in between leaves a log that no longer replays, and
    # the next start is refused rather than let an unlisted key live.
    log.store(plan.runtime_log)
    log.require_replays_to(provider.read_rtmr3())
    return log


def _stated(provider: QuoteProvider, plan: BootPlan) -> tuple[MeasuredEvent, ...]:
    """Return what the statement lists because nobody can extend RTMR3 here.

    Only a measured image notes events for that; a gateway elsewhere has nothing to list.
    """
    if provider.can_extend_rtmr3 or provider.event_log() is not None:
        return ()
    before = RuntimeLog.load(plan.runtime_log)
    _require_these_settings(before.measured, plan)
    return before.with_own(plan.measured).measured if before.events else ()


def _require_these_settings(measured: tuple[MeasuredEvent, ...], plan: BootPlan) -> None:
    for event in measured:
        if event.name == GATEWAY_CONFIG and event.sha256 != plan.config_digest:
            raise UnavailableError(
                "the settings are not those that were measured when this TD started",
                code="rtmr3",
                expected=f"{GATEWAY_CONFIG} {event.sha256}",
                observed=f"{plan.config_digest}",
                hint="one file, one environment and the same flags for every command of the image; "
                "`attested config show` names what differs",
            )


def _require_own_look(quote: Quote, statement: BootStatement) -> None:
    if quote.body.report_data != statement.report_data:
        raise _unusable("report data", "the digest of the boot statement")
    checks = own_checks(quote)
    if False in (checks.body_sig, checks.ak_binding, checks.qe_sig, checks.chain):
        raise _unusable("signatures", "signatures that hold")


def _shown_log(
    provider: QuoteProvider, measured: RuntimeLog | KeyEvent | None, quote: Quote
) -> EventLogRecord | None:
    """Return the log that the bundle carries, after it was seen to replay to the boot quote."""
    if isinstance(measured, RuntimeLog):
        measured.require_replays_to(quote.body.rtmrs[_RTMR3])
        return EventLogRecord(format="attested-gateway", data=measured.to_json())
    kept = provider.event_log()
    if kept is not None:
        require_kept_log(kept, quote, measured)
    return kept


def _require_one_model(evidence: BootEvidence, quote: Quote, model: MeasuredModel | None) -> None:
    """Raise `UnavailableError` where every verifier would: the log names another model."""
    named = measured_digests(evidence, quote)
    wanted = (
        MeasuredDigests(model=model.digest, arguments=model.arguments_digest)
        if model
        else NOTHING_MEASURED
    )
    if named != wanted:
        raise UnavailableError(
            "the event log names another model, or other engine arguments, than this start",
            code="rtmr3",
            expected=_differing(wanted, named),
            observed=_differing(named, wanted),
            hint="an earlier start in this TD measured otherwise: restart the TD, or set "
            "model.lock as it was",
        )


def _differing(one: MeasuredDigests, other: MeasuredDigests) -> str:
    """Return in words what `one` says otherwise than `other`."""
    told = []
    if one.model != other.model:
        told.append(f"model {one.model}" if one.model else "no model")
    if one.arguments != other.arguments:
        arguments = f"engine arguments {one.arguments}" if one.arguments else "no engine arguments"
        told.append(arguments)
    return ", ".join(told)


def _unusable(what: str, expected: str) -> UnavailableError:
    return UnavailableError(
        f"the platform's boot quote has wrong {what}",
        code="boot_quote",
        expected=expected,
        hint="check evidence.provider and the quoting service",
    )
