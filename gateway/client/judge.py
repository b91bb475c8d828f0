"""The verification of calls, through the one pipeline, against one boot's evidence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.bundle import BundledReceipt, make_bundle
from attestation.checks import ANCHORING
from attestation.errors import EvidenceError
from attestation.merkle.note import parse_vkey
from attestation.policy import Policy, parse_policy, read_signed_policy
from attestation.policy.signature import SUFFIX
from attestation.receipt.signing import parse_receipt
from attestation.result import AttestationResult, Status
from attestation.tdx.anchor import INTEL_ANCHOR, Anchor, parse_anchor
from attestation.verifier import Contents, verify, verify_boots, verify_challenge
from gateway.client.call import Call, Ended
from gateway.client.evidence import CHANNEL_OPEN
from gateway.client.marks import Marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from attestation.bundle import Bundle
    from attestation.encoding.digest import Digest
    from attestation.receipt.signing import Receipt
    from attestation.result import Check
    from attestation.verifier import ChallengeEvidence
    from gateway.client.evidence import Evidence


_DEMANDED = frozenset({"REQUEST-BODY", "RESPONSE-BODY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a caller accepts: its policy, the roots, and the least verdict it goes on with.

    `gate` raises for a result that must not be used; `AttestationResult.require_accepted` lets
    only real evidence pass.  `high_water` is the file in which sessions remember the newest
    endorsements seen and by which they refuse older ones, as `attested verify --high-water` does.
    """

    policy: Policy
    anchors: tuple[Anchor, ...]
    gate: Callable[[AttestationResult], None] = AttestationResult.require_accepted
    high_water: Path | None = None


def load_trust(
    policy: Path,
    *,
    simulated_root: Path | None = None,
    high_water: Path | None = None,
    signers: Sequence[str] | None = None,
) -> Trust:
    """The trust that the file `policy` states, under Intel's root.

    With `simulated_root`, the root certificate of a simulated platform, that one takes the
    place of Intel's, and simulated evidence is enough: for tests and demonstrations only.
    `high_water` names the file of `Trust.high_water`; it is made if it is missing.
    With `signers`, verifier keys (C2SP vkeys), one of them must have signed exactly this policy, in
    the file beside it that ends in `.sig` (`attested policy sign`); an empty list is none of them.
    Raises `MalformedError` for files that do not parse, `OSError` for files that are not there,
    `UnavailableError` for a policy without the signature, `EvidenceError` if it is another's.
    """
    parsed = _load_policy(policy, signers)
    if simulated_root is None:
        return Trust(policy=parsed, anchors=(INTEL_ANCHOR,), high_water=high_water)
    return Trust(
        policy=parsed,
        anchors=(parse_anchor(simulated_root.read_bytes()),),
        gate=AttestationResult.require_accepted_or_unsafe_simulated,
        high_water=high_water,
    )


def _load_policy(path: Path, signers: Sequence[str] | None) -> Policy:
    data = path.read_bytes()
    # An empty list is an answer, and not that nobody asks.
    if signers is None:
        return parse_policy(data)
    beside = path.with_name(path.name + SUFFIX)
    signature = beside.read_bytes() if beside.is_file() else None
    return read_signed_policy(data, signature, [parse_vkey(signer) for signer in signers])


class EvidenceJudge:
    """Judges every call by the evidence of the boot that was accepted at the beginning."""

    def __init__(
        self,
        evidence: Evidence,
        channel: Check,
        trust: Trust,
        clock: Callable[[], float],
        marks: Marks | None = None,
    ) -> None:
        self._evidence = evidence
        self._channel = channel
        self._trust = trust
        self._clock = clock
        self._marks = marks or Marks(trust.high_water, trust.policy)

    def judge(self, call: Call) -> AttestationResult:
        """The verification of one call; raises `AttestationError` unless it is accepted.

        1. The receipt speaks of this very request and answer (id, route, status).
        2. `verify`: quote, keyset, signature, binding, nonce and, for an answer that was read
           to its end, both bodies.
        3. The result passes the caller's gate, and none of what this client can prove was
           left out.  Anchoring counts once there is something to check: an answer comes before
           the log is quoted again.
        """
        receipt = parse_receipt(call.receipt or "")
        _require_about(call, receipt)
        result = self._verified([(call, receipt)])
        self._trust.gate(result if call.anchoring is not None else _not_yet_anchored(result))
        _require_bound(call, receipt, result)
        return result

    def judge_challenge(self, challenge: ChallengeEvidence, nonce: bytes) -> AttestationResult:
        """The verification of the boot's answer to `nonce`; raises unless it is accepted."""
        result = verify_challenge(
            self._evidence.bundle,
            challenge,
            nonce,
            self._trust.policy,
            int(self._clock()),
            self._trust.anchors,
            high_water=self._marks.known,
        )
        self._marks.see(result)
        result = with_channel(result, self._channel)
        self._trust.gate(result)
        return result

    def judge_record(self, calls: Iterable[Call]) -> AttestationResult:
        """The verification of all calls together, as an auditor makes it of the exported record.

        Each may hold by itself and yet contradict another (EQUIVOCATION).  Raises
        `AttestationError` unless the whole is accepted; calls without a receipt are left out.
        """
        pairs = [(call, receipt) for call in calls if (receipt := call.parse_receipt())]
        result = self._verified(pairs)
        anchored = all(call.anchoring is not None for call, _ in pairs)
        self._trust.gate(result if anchored else _not_yet_anchored(result))
        return result

    def _verified(self, pairs: Sequence[tuple[Call, Receipt]]) -> AttestationResult:
        items = {receipt.digest: bundled(call, receipt) for call, receipt in pairs}
        result = verify(
            session_bundle(self._evidence.bundle, items, (call for call, _ in pairs)),
            policy=self._trust.policy,
            at=int(self._clock()),
            anchors=self._trust.anchors,
            contents={receipt.claims.jti: _contents(call) for call, receipt in pairs},
            high_water=self._marks.known,
        )
        self._marks.see(result)
        # Where the connection has no key, the pipeline cannot know why: the session does.
        seen = any(call.peer is not None for call, _ in pairs)
        return result if seen else with_channel(result, self._channel)


def _contents(call: Call) -> Contents:
    complete = call.ended is Ended.COMPLETE
    return Contents(
        request=call.request_body,
        response=call.response_body if complete else None,
        nonce=call.nonce,
        peer_spki=call.peer,
        demanded=_DEMANDED if complete else _DEMANDED - {"RESPONSE-BODY"},
    )


def bundled(call: Call, receipt: Receipt) -> BundledReceipt:
    """The call's receipt as a bundle carries it."""
    proof = call.anchoring.proof if call.anchoring is not None else None
    return BundledReceipt(receipt=receipt, openings=call.openings, proof=proof)


def session_bundle(
    evidence: Bundle, receipts: Mapping[Digest, BundledReceipt], calls: Iterable[Call]
) -> Bundle:
    """The accepted evidence with these receipts and the epochs that anchor `calls`, each once."""
    anchorings = [call.anchoring for call in calls if call.anchoring is not None]
    return make_bundle(
        boots=evidence.boots,
        collateral=[
            *evidence.collateral.values(),
            *(item for one in anchorings for item in one.collateral),
        ],
        epochs={one.epoch.statement.digest: one.epoch for one in anchorings}.values(),
        receipts=receipts.values(),
    )


def accept_boot(
    evidence: Evidence, channel: Check, trust: Trust, marks: Marks, *, at: int
) -> AttestationResult:
    """The verification of a boot before anything is sent to it; raises unless it is accepted."""
    result = verify_boots(evidence.bundle, trust.policy, at, trust.anchors, high_water=marks.known)
    marks.see(result)
    result = with_channel(result, channel)
    trust.gate(result)
    return result


def with_channel(result: AttestationResult, channel: Check) -> AttestationResult:
    """The result with what only a live client can say about the connection."""
    checks = tuple(check for check in result.checks if check.id != channel.id)
    notes = result.not_proved
    if channel.status is not Status.PASS:
        topic = CHANNEL_OPEN.partition(":")[0]
        notes = (CHANNEL_OPEN, *(note for note in notes if not note.startswith(topic)))
    return dataclasses.replace(result, checks=(*checks, channel), not_proved=notes)


def _require_about(call: Call, receipt: Receipt) -> None:
    claims = receipt.claims
    said: dict[str, object] = {
        "id": claims.jti,
        "method": claims.request.method,
        "path": claims.request.path,
        "status": claims.response.status,
    }
    seen = {
        "id": call.receipt_id or claims.jti,
        "method": call.method,
        "path": call.path,
        "status": call.status if call.status is not None else claims.response.status,
    }
    differing = [name for name, value in seen.items() if said[name] != value]
    if differing:
        raise EvidenceError(
            f"the receipt is about another exchange: {', '.join(differing)}",
            code="other_exchange",
            expected=", ".join(f"{name} {seen[name]}" for name in differing),
            observed=", ".join(f"{name} {said[name]}" for name in differing),
        )


def _not_yet_anchored(result: AttestationResult) -> AttestationResult:
    """The result as the gate is to see it while the log was not quoted since the receipt."""
    checks = tuple(
        dataclasses.replace(check, required=False)
        if check.id in ANCHORING and check.status is Status.SKIP
        else check
        for check in result.checks
    )
    return dataclasses.replace(result, checks=checks)


def _require_bound(call: Call, receipt: Receipt, result: AttestationResult) -> None:
    about = f"receipt {receipt.claims.jti}"
    checks = [check for check in result.checks if check.subject in (about, "connection")]
    passed = {check.id for check in checks if check.status is Status.PASS}
    wanted = {"NONCE", "REQUEST-BODY"}
    if call.anchoring is not None:
        wanted |= ANCHORING
    if call.ended is Ended.COMPLETE:
        wanted.add("RESPONSE-BODY")
    if call.peer is not None:
        wanted.add("CHANNEL")
    if missing := sorted(wanted - passed):
        raise EvidenceError(
            f"the receipt does not prove {', '.join(missing)}",
            code="not_bound",
            expected="a receipt with its openings, over this nonce and these bodies",
            hint="the openings may have been removed on the way",
        )
