"""Well-formed inputs to start from, made by the project's own writers and equal in every run."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.bundle.model import BootEvidence, BundledReceipt, EventLogRecord, make_bundle
from attestation.encoding import jcs, jwk
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note, vkey_for
from attestation.merkle.tlog_proof import TlogProof, render
from attestation.merkle.tree import inclusion_path, leaf_hash, root_hash
from attestation.receipt.block import render_block
from attestation.receipt.claims import End
from attestation.receipt.commitments import Openings
from attestation.receipt.outcome import Body, LineageContext, Outcome
from attestation.receipt.seal import SealContext, claims_of
from attestation.receipt.signing import parse_receipt, sign_receipt
from attestation.statement import BootStatement, ChallengeStatement, EpochStatement, Keyset
from attestation.statement.common import report_data
from attestation.statement.model_lock import (
    LockedEngine,
    LockedFile,
    ModelLock,
    ModelSource,
    Role,
)
from attestation.tdx.eventlog import KeyEvent
from attestation.tdx.quote import canonical_quote
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support import bundles
from tests.support.bundles import Gateway
from tests.support.epochs import EpochLog

NOW = 1_760_000_000
LOG_NOW = bundles.NOW + 60
JTI = "0123456789abcdef0123456789abcdef"
BOOTSEED = b"\x11" * 32
ORIGIN = f"gateway.example/{BOOTSEED.hex()[:16]}"
RECEIPT_KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One boot with one receipt in its log, and everything that was written about it."""

    platform: SimulatedPlatform
    keyset: Keyset
    statement: BootStatement
    epoch: EpochStatement
    challenge: ChallengeStatement
    quote: bytes
    token: str
    openings: Openings
    note: str
    proof: str
    bundle: bytes


@cache
def world(version: int = 4) -> World:
    """Return the same world every time, with quotes of version 4 or 5."""
    platform = SimulatedPlatform(now=NOW, version=version, seed=bytes(range(32)))
    keyset = _keyset()
    statement = BootStatement(
        bootseed=BOOTSEED,
        keyset_digest=keyset.digest,
        log_origin=ORIGIN,
        config_digest=Digest.of(b"config"),
        time_claimed=NOW,
    )
    quote = canonical_quote(platform.quote(report_data(statement.canonical)))
    token, openings = _receipt(keyset, Digest.of(quote[:632]))
    receipt = parse_receipt(token)
    note, proof = _log(statement, receipt.digest)
    event = KeyEvent(bootseed=BOOTSEED, keyset_digest=keyset.digest, n=1)
    collateral = platform.collateral()
    boot = BootEvidence(
        statement=statement,
        keyset=keyset,
        quote=quote,
        event_log=EventLogRecord(format="attested-gateway", data=[event.to_json()]),
        collateral=collateral.digest,
    )
    item = BundledReceipt(receipt=receipt, openings=openings, proof=proof)
    return World(
        platform=platform,
        keyset=keyset,
        statement=statement,
        epoch=_epoch(keyset),
        challenge=_challenge(keyset),
        quote=quote,
        token=token,
        openings=openings,
        note=note,
        proof=proof,
        bundle=make_bundle(boots=[boot], collateral=[collateral], receipts=[item]).encode(),
    )


@cache
def whole_log() -> EpochLog:
    """Return a boot whose log has two quoted epochs over three receipts."""
    log = EpochLog(Gateway(seed="fuzz"))
    for count in (2, 1):
        log.serve(count)
        log.quote_epoch()
    return log


def _keyset() -> Keyset:
    raw = RECEIPT_KEY.public_key().public_bytes_raw()
    return Keyset(
        log_vkey=vkey_for(ORIGIN, LOG_KEY.public_key().public_bytes_raw()),
        not_after=NOW + 86_400,
        receipt_key=jwk.Jwk(raw=raw, kid=jwk.thumbprint(raw)),
        tls_spki=(Digest.of(b"spki"),),
    )


def _receipt(keyset: Keyset, quote_digest: Digest) -> tuple[str, Openings]:
    outcome = Outcome(
        jti=JTI,
        method="POST",
        path="/v1/chat/completions",
        sub=Digest.of(b"key"),
        grant_digest=Digest.of(b"grant"),
        lineage=LineageContext(txn="task-1", span="00f067aa0ba902b7", parents=("a" * 32,)),
        inline=True,
        end=End.COMPLETE,
        decision="allow",
        request=Body(digest=Digest.of(b"{}"), length=2),
        request_type="application/json",
        status=200,
        response=Body(digest=Digest.of(b"answer"), length=6),
        response_type="text/event-stream",
        block_offset=3,
        events=2,
        nonce="n" * 16,
    )
    context = SealContext(
        issuer="gateway.example",
        issued_at=NOW,
        bootseed=BOOTSEED,
        boot_secret=b"\x03" * 32,
        keyset_digest=keyset.digest,
        debug="disabled",
        provider="simulated",
        quote_digest=quote_digest,
        log_origin=ORIGIN,
        index=1,
        admission=1,
        call=0,
        previous=None,
        known={"a" * 32: Digest.of(b"parent")},
    )
    claims, openings = claims_of(outcome, context)
    return sign_receipt(claims, RECEIPT_KEY, keyset.receipt_key.kid), openings


def _log(statement: BootStatement, receipt: Digest) -> tuple[str, str]:
    entries = [b"\x00" + statement.digest.value, b"\x01" + receipt.value]
    leaves = [leaf_hash(entry) for entry in entries]
    checkpoint = Checkpoint(origin=ORIGIN, size=2, root=root_hash(leaves))
    note = sign_note(checkpoint.text, ORIGIN, LOG_KEY)
    path = tuple(inclusion_path(1, leaves))
    return note, render(TlogProof(extra=None, index=1, path=path, note=note))


def _epoch(keyset: Keyset) -> EpochStatement:
    digest = Digest.of(b"x")
    return EpochStatement(
        bootseed=BOOTSEED,
        boot_quote_digest=digest,
        keyset_digest=keyset.digest,
        epoch=0,
        size=2,
        root=digest,
        checkpoint_digest=digest,
        prev_quote_digest=digest,
        grants_digest=digest,
        admitted=2,
        completed=1,
        in_flight=1,
        unauthenticated=0,
        refused_unreceipted=0,
        time_claimed=NOW,
    )


def _challenge(keyset: Keyset) -> ChallengeStatement:
    digest = Digest.of(b"x")
    return ChallengeStatement(
        bootseed=BOOTSEED,
        boot_quote_digest=digest,
        keyset_digest=keyset.digest,
        nonce_root=digest,
        size=2,
        root=digest,
    )


def ccel() -> bytes:
    """Return a CC event log: the header record, events of every kind that is read, padding."""
    spec = struct.pack("<16sIBBBBI", b"Spec ID Event03\x00", 0, 0, 2, 0, 2, 1)
    spec += struct.pack("<HH", 0x0C, 48) + b"\x00"
    log = struct.pack("<II20sI", 1, 3, bytes(20), len(spec)) + spec
    variable = (
        struct.pack("<16sQQ", b"\x61\xdf\xe4\x8b" * 4, 2, 1) + "PK".encode("utf-16-le") + b"\x01"
    )
    table = b"EFI PART" + bytes(84) + struct.pack("<Q", 1) + bytes(128)
    tagged = struct.pack("<II", 1, 4) + b"data"
    records = (
        (1, 0x0D, b"first"),
        (3, 0x80000007, b"second"),
        (1, 0x80000001, variable),
        (2, 0x80000006, table),
        (4, 0x06, tagged),
        (1, 0x04, bytes(4)),
    )
    for register, kind, data in records:
        digest = hashlib.sha384(data).digest()
        log += struct.pack("<IIIH", register, kind, 1, 0x0C) + digest
        log += struct.pack("<I", len(data)) + data
    return log + b"\xff" * 64


def dstack() -> bytes:
    """Return a dstack event log with a boot-time and a run-time event."""
    payload = b"id"
    kind = struct.pack("<I", 0x08000001)
    digest = hashlib.sha384(kind + b":app-id:" + payload).hexdigest()
    return json.dumps(
        [
            {"imr": 0, "event_type": 1, "digest": "ab" * 48, "event": "", "event_payload": ""},
            {
                "imr": 3,
                "event_type": 0x08000001,
                "digest": digest,
                "event": "app-id",
                "event_payload": payload.hex(),
            },
        ]
    ).encode()


def stream() -> bytes:
    """Return a whole event stream with all kinds of line ends, a block and a terminal frame."""
    made = world()
    return (
        b'\xef\xbb\xbfdata: {"a":1}\n\n: keep-alive\n\nevent: x\r\ndata: b\r\rdata: y\n\r\n'
        + render_block(made.token, made.openings)
        + b"data: [DONE]\n\n"
    )


def policy() -> bytes:
    """Return a policy that uses most keys."""
    registers = "".join(f'rtmr{number} = "{"0" * 96}"\n' for number in range(3))
    return f"""schema = "appraisal-policy/1"
[tdx]
tcb_status = ["UpToDate"]
min_tcb_evaluation_number = 17
max_key_events = 1
[[reference_values]]
name = "image"
mrtd = "{"0" * 96}"
{registers}rtmr3 = "replay"
[[reference_values.events]]
name = "receipt.key"
digest = "{"0" * 96}"
[log]
require_anchored = false
""".encode()


def canonical(value: object) -> bytes:
    """Return the canonical JSON of a value."""
    return jcs.canonicalize(value)  # type: ignore[arg-type]


def model_lock() -> bytes:
    """A lock of two files."""
    names = {"tokenizer/vocab.json": Role.TOKENIZER, "weights.safetensors": Role.WEIGHTS}
    return ModelLock(
        model="tiny",
        files=tuple(
            LockedFile(path=path, role=role, sha256=Digest.of(path.encode()), size=7)
            for path, role in names.items()
        ),
        source=ModelSource(repository="org/tiny", revision="0" * 40),
        engine=LockedEngine(name="vllm", version="0.32.0", arguments=("--max-model-len=4096",)),
    ).canonical
