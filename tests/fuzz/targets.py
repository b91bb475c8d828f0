"""Every parser of `attestation` as a function of bytes, with what must hold if it accepts.

A target returns (it accepted) or raises an `AttestationError` (it refused).  Anything else is a
finding: a foreign exception, or an `AssertionError` from an invariant of what was accepted.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from attestation.bundle import parse_bundle
from attestation.bundle.lone import parse_evidence
from attestation.encoding import base64std, base64url, jcs, jwk
from attestation.encoding.jws import assemble, parse_compact_jws
from attestation.encoding.strict_json import JsonLimits, JsonValue, parse_json, parse_json_object
from attestation.errors import EvidenceError
from attestation.lineage.context import lineage_from_headers, parse_traceparent
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, parse_vkey, verify_note, vkey_for
from attestation.merkle.tlog_proof import parse_tlog_proof, render, verify_tlog_proof
from attestation.merkle.tree import leaf_hash
from attestation.receipt.block import find_block
from attestation.receipt.claims_parser import parse_claims
from attestation.receipt.commitments import parse_openings, parse_openings_header
from attestation.receipt.engine_json import parse_engine_object
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from attestation.receipt.sse import BOM, SseFramer, parse_event
from attestation.statement import parse_boot_statement, parse_epoch_statement, parse_keyset
from attestation.statement.model_lock import parse_model_lock
from attestation.statement.parse import parse_statement
from attestation.statement.running import parse_challenge_statement
from attestation.tdx.anchor import parse_anchor
from attestation.tdx.ccel import parse_ccel, parse_ccel_table
from attestation.tdx.chain import split_pem
from attestation.tdx.collateral import parse_collateral, parse_dcap_collateral
from attestation.tdx.dcap import verify_quote
from attestation.tdx.divergence import find_mismatch
from attestation.tdx.eventdata import read_content
from attestation.tdx.eventlog import parse_dstack, parse_gateway_events, parse_runtime_events
from attestation.tdx.events import EventLog, replay
from attestation.tdx.logfile import parse_log_file
from attestation.tdx.pck import parse_pck_extension_value
from attestation.tdx.quote import canonical_quote, parse_quote, require_canonical_quote
from attestation.tdx.runtime import parse_runtime_content
from attestation.verifier import parse_challenge, verify
from tests.fuzz import logs, measured, policies, released, seeds, tokens, wire
from tests.fuzz.seeds import world

Run = Callable[[bytes], object]
_WIDE = JsonLimits(max_number_chars=1024, min_integer=-(1 << 1023), max_integer=1 << 1023)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parser, well-formed inputs, and how inputs are built: what `mutations` can take apart.

    `shape` is bytes, text, json, jws or json64 (base64url of JSON).
    """

    run: Run
    seeds: Callable[[], list[bytes]]
    shape: str = "bytes"


def text_of(data: bytes) -> str:
    """Return text that may hold lone surrogates, as text from a program may."""
    return data.decode("utf-8", "surrogateescape")


def run_json(data: bytes) -> None:
    value = parse_json(data)
    assert json.loads(data) == value
    canonical = jcs.canonicalize_full(value)
    assert jcs.canonicalize_full(parse_json(canonical, _WIDE)) == canonical


def run_jcs(data: bytes) -> None:
    value = jcs.parse_canonical(data)
    assert jcs.canonicalize(value) == jcs.canonicalize_full(value) == data


def run_base64url(data: bytes) -> None:
    assert base64url.encode(base64url.decode(text_of(data))) == text_of(data)


def run_base64std(data: bytes) -> None:
    assert base64std.encode(base64std.decode(text_of(data))) == text_of(data)


def run_jws(data: bytes) -> None:
    jws = parse_compact_jws(data)
    assert assemble(jws.signing_input, jws.signature).encode() == data


def run_jwk(data: bytes) -> None:
    value = parse_json(data)
    assert jwk.public_jwk(jwk.parse_public_jwk(value).raw) == value


def run_vkey(data: bytes) -> None:
    vkey = parse_vkey(text_of(data))
    assert vkey_for(vkey.name, vkey.public) == text_of(data)


def run_note(data: bytes) -> None:
    note = parse_note(data)
    lines = "".join(
        f"— {s.name} {base64std.encode(s.key_id + s.signature)}\n" for s in note.signatures
    )
    assert f"{note.text}\n{lines}".encode() == data
    verify_note(note, [world().keyset.log_key])
    assert note.text == parse_note(world().note).text, "a signature for another text"


def run_checkpoint(data: bytes) -> None:
    assert parse_checkpoint(text_of(data)).text == text_of(data)


def run_tlog_proof(data: bytes) -> None:
    made = world()
    proof = parse_tlog_proof(text_of(data))
    assert render(proof) == text_of(data)
    leaf = leaf_hash(b"\x01" + parse_receipt(made.token).digest.value)
    keys = [made.keyset.log_key]
    entry = verify_tlog_proof(proof, leaf_hash=leaf, vkeys=keys, origin=seeds.ORIGIN)
    assert (entry.index, entry.checkpoint.size) == (1, 2)


def run_model_lock(data: bytes) -> None:
    lock = parse_model_lock(data)
    assert lock.canonical == data
    assert not any(".." in file.path.split("/") for file in lock.files)


def run_quote(data: bytes) -> None:
    quote = parse_quote(data)
    assert quote.raw + bytes(quote.padding) == data
    canonical = canonical_quote(data)
    assert canonical_quote(canonical) == canonical
    assert parse_quote(canonical).digest == quote.digest


def run_verify_quote(data: bytes) -> None:
    platform = world().platform
    quote = parse_quote(data)
    require_canonical_quote(quote, platform.anchor)
    verify_quote(quote, platform.collateral(), seeds.NOW, platform.anchor)
    signed = [parse_quote(world(version).quote).signed_region for version in (4, 5)]
    assert quote.signed_region in signed, "another quote accepted"


def run_pck_extension(data: bytes) -> None:
    parse_pck_extension_value(data)


def run_pem(data: bytes) -> None:
    assert split_pem(data, what="x")


def run_anchor(data: bytes) -> None:
    assert parse_anchor(data).trust_domain in {"intel", "simulated"}


def run_collateral(data: bytes) -> None:
    value = parse_json(data)
    assert parse_collateral(value).to_json() == value


def run_dcap_collateral(data: bytes) -> None:
    collateral = parse_dcap_collateral(data)
    assert parse_collateral(dict(collateral.to_json())) == collateral


def run_event_log(parse: Callable[[bytes], EventLog], data: bytes) -> None:
    log = parse(data)
    assert {len(register) for register in replay(log)} <= {0, 48}
    assert all(event.content in (None, event.data) for event in log.events)
    for event in log.events:
        shown = read_content(event)
        assert (shown is None) == (event.content is None)
        assert json.dumps(shown)
    for register, value in enumerate(replay(log)):
        found = find_mismatch(log.of(register), value)
        assert (found is None) == bool(value)


def run_runtime_log(data: bytes) -> None:
    value = parse_json(data)
    events = parse_runtime_events(value)
    assert [event.to_json() for event in events] == value
    assert [parse_runtime_content(event.content) for event in events] == list(events)
    run_event_log(lambda data: parse_gateway_events(parse_json(data)), data)


def run_ccel_table(data: bytes) -> None:
    parse_ccel_table(data)


def run_canonical(parse: Callable[[JsonValue], object], data: bytes) -> None:
    """Run a parser of statements: what it accepts, it writes as it was."""
    value = parse_json(data)
    parsed = parse(value)
    assert parsed.to_json() == value  # type: ignore[attr-defined]


def run_challenge(data: bytes) -> None:
    challenge = parse_challenge(parse_json(data))
    written = {
        "count": challenge.count,
        "index": challenge.index,
        "path": [base64url.encode(node) for node in challenge.path],
        "quote": base64url.encode(challenge.quote),
        "statement": challenge.statement.to_json(),
    }
    assert written == parse_json(data)


def run_claims(data: bytes) -> None:
    value = parse_json_object(data)
    assert parse_claims(value).to_json() == value


def run_receipt(data: bytes) -> None:
    receipt = parse_receipt(data)
    assert receipt.token.encode() == data
    verify_receipt_signature(receipt, world().keyset.receipt_key)
    assert receipt.digest == parse_receipt(world().token).digest, "a signature for other claims"


def run_openings_header(data: bytes) -> None:
    assert parse_openings_header(text_of(data)).encode_header() == text_of(data)


def run_engine_json(data: bytes) -> None:
    value = parse_engine_object(data)
    assert value is None or json.loads(data) == value or "nan" in repr(value)


def run_sse(data: bytes) -> None:
    whole = SseFramer(max_frame_bytes=1 << 20)
    frames = whole.feed(data)
    assert b"".join(frames) + (whole.finish() or b"") == data
    pieces = SseFramer(max_frame_bytes=1 << 20)
    cut = []
    size = 1 + len(data) // 512
    for start in range(0, len(data), size):
        cut += pieces.feed(data[start : start + size])
    assert (cut, pieces.finish()) == (frames, whole.finish()), "frames depend on the reads"
    for frame in frames:
        assert frame == BOM or frame[-1:] in (b"\n", b"\r")
        parse_event(frame)
    small = SseFramer(max_frame_bytes=8)
    assert all(len(frame) <= 8 for frame in small.feed(data))


def run_find_block(data: bytes) -> None:
    found = find_block(data)
    if found is not None:
        assert data[found.offset :].startswith(b": receipt " + found.token.encode())


def run_bundle(data: bytes) -> None:
    assert parse_bundle(data).encode() == data


def run_verify(data: bytes) -> None:
    bundle = parse_evidence(data)
    anchors = [world().platform.anchor, seeds.whole_log().made.anchor]
    at = seeds.LOG_NOW if bundle.epochs else seeds.NOW
    result = verify(bundle, None, at, anchors, {})
    assert result.exit_code in {10, 11, 12, 13}, "accepted without a policy"


def run_lineage(data: bytes) -> None:
    text = text_of(data)
    trace = parse_traceparent(text)
    assert trace is None or (len(trace[0]), len(trace[1])) == (32, 16)
    task, _, parents = text.partition("\n")
    made = lineage_from_headers(text, task, parents, random_trace="1" * 32, random_span="2" * 16)
    assert len(made.parents) <= 16


def _json(value: object) -> list[bytes]:
    return [seeds.canonical(value)]


def _signature_of_other_text() -> list[bytes]:
    other = world().note.replace("\n2\n", "\n3\n")
    try:
        verify_note(parse_note(other), [world().keyset.log_key])
    except EvidenceError:
        return [world().note.encode(), other.encode()]
    raise AssertionError


def _any_json() -> list[bytes]:
    value = {"a": [1, 2.5, True, None, "é\n", -7, {"": []}], "b": {"c": 1e21}, "\U0001f600": 0}
    return [json.dumps(value).encode(), b'"\\ud83d\\ude00"', b"[[[[1]]]]"]


def _dcap() -> list[bytes]:
    platform = world().platform
    value = platform.collateral().to_json()
    binary = {
        name: base64url.decode(value[name]).hex()
        for name in ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
    }
    return [json.dumps(value | binary).encode()]


def _pck_extension() -> list[bytes]:
    from cryptography import x509  # noqa: PLC0415

    leaf = x509.load_der_x509_certificate(parse_quote(world().quote).chain()[0])
    oid = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
    found = leaf.extensions.get_extension_for_oid(oid).value
    assert isinstance(found, x509.UnrecognizedExtension)
    return [found.value]


def _quotes() -> list[bytes]:
    return [world().quote, world(5).quote, world().quote + bytes(64)]


def _runtime_log() -> list[bytes]:
    boot = json.loads(world().bundle)["boots"][0]
    keys = boot["event_log"]["data"]
    return _json(keys) + _json([{"event": "model.lock", "sha256": "ab" * 32}, *keys])


def _log_files() -> list[bytes]:
    wrapped = {"event_log": seeds.dstack().decode(), "quote": "00"}
    packed = [gzip.compress(seeds.ccel(), mtime=0), zlib.compress(seeds.dstack())]
    return [seeds.ccel(), seeds.dstack(), *_runtime_log(), *_json(wrapped), *packed]


TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _challenge() -> list[bytes]:
    return _json(
        {
            "count": 2,
            "index": 1,
            "path": [base64url.encode(bytes(32))],
            "quote": base64url.encode(world().quote),
            "statement": world().challenge.to_json(),
        }
    )


TARGETS: dict[str, Target] = {
    "json": Target(run=run_json, seeds=_any_json, shape="json"),
    "jcs": Target(run=run_jcs, seeds=lambda: _json({"b": [1, None], "a": "é"}), shape="json"),
    "base64url": Target(run=run_base64url, seeds=lambda: [b"AAECAw", b"-_8"], shape="text"),
    "base64std": Target(run=run_base64std, seeds=lambda: [b"AAECAw==", b"+/8="], shape="text"),
    "bearer-token": Target(run=tokens.run_bearer, seeds=tokens.bearers, shape="jws"),
    "issuer-keys": Target(run=tokens.run_issuer_keys, seeds=tokens.issuer_keys, shape="json"),
    "signed-token": Target(run=tokens.run_token, seeds=tokens.tokens, shape="jws"),
    "key-set": Target(run=tokens.run_key_set, seeds=tokens.key_sets, shape="json"),
    "public-key": Target(run=tokens.run_public_key, seeds=tokens.public_keys),
    "jws": Target(run=run_jws, seeds=lambda: [world().token.encode()], shape="jws"),
    "jwk": Target(
        run=run_jwk,
        seeds=lambda: _json(jwk.public_jwk(world().keyset.receipt_key.raw)),
        shape="json",
    ),
    "vkey": Target(run=run_vkey, seeds=lambda: [world().keyset.log_vkey.encode()], shape="text"),
    "note": Target(run=run_note, seeds=_signature_of_other_text, shape="text"),
    "checkpoint": Target(
        run=run_checkpoint,
        seeds=lambda: [parse_note(world().note).text.encode()],
        shape="text",
    ),
    "tlog-proof": Target(run=run_tlog_proof, seeds=lambda: [world().proof.encode()], shape="text"),
    "tile-path": Target(run=logs.run_tile_path, seeds=lambda: logs.PATHS, shape="text"),
    "entry-bundle": Target(
        run=logs.run_entry_bundle, seeds=lambda: [b"\x03\x00\x02ab\x00\x00\x00\x01c", b"\x00"]
    ),
    "hash-tile": Target(run=logs.run_hash_tile, seeds=lambda: [bytes(64)]),
    "log-state": Target(run=logs.run_log_state, seeds=lambda: [logs.state()], shape="json"),
    "log-audit": Target(run=logs.run_log_audit, seeds=logs.resources),
    "high-water": Target(run=policies.run_high_water, seeds=policies.high_water, shape="json"),
    "quote": Target(run=run_quote, seeds=_quotes),
    "verify-quote": Target(run=run_verify_quote, seeds=_quotes),
    "pck-extension": Target(run=run_pck_extension, seeds=_pck_extension),
    "pem": Target(run=run_pem, seeds=lambda: [parse_quote(world().quote).cert_chain_pem]),
    "anchor": Target(run=run_anchor, seeds=lambda: [world().platform.anchor.root_der]),
    "collateral": Target(
        run=run_collateral,
        seeds=lambda: _json(world().platform.collateral().to_json()),
        shape="json",
    ),
    "dcap-collateral": Target(run=run_dcap_collateral, seeds=_dcap, shape="json"),
    "ccel": Target(run=partial(run_event_log, parse_ccel), seeds=lambda: [seeds.ccel()]),
    "ccel-table": Target(run=run_ccel_table, seeds=lambda: [_ccel_table()]),
    "dstack": Target(
        run=partial(run_event_log, lambda data: parse_dstack(parse_json(data))),
        seeds=lambda: [seeds.dstack()],
        shape="json",
    ),
    "runtime-log": Target(run=run_runtime_log, seeds=_runtime_log, shape="json"),
    "log-file": Target(run=partial(run_event_log, parse_log_file), seeds=_log_files),
    "keyset": Target(
        run=partial(run_canonical, parse_keyset),
        seeds=lambda: [world().keyset.canonical],
        shape="json",
    ),
    "boot-statement": Target(
        run=partial(run_canonical, parse_boot_statement),
        seeds=lambda: [world().statement.canonical],
        shape="json",
    ),
    "epoch-statement": Target(
        run=partial(run_canonical, parse_epoch_statement),
        seeds=lambda: [world().epoch.canonical],
        shape="json",
    ),
    "challenge-statement": Target(
        run=partial(run_canonical, parse_challenge_statement),
        seeds=lambda: [world().challenge.canonical],
        shape="json",
    ),
    "challenge": Target(run=run_challenge, seeds=_challenge, shape="json"),
    "statement": Target(
        run=partial(run_canonical, parse_statement),
        seeds=lambda: [
            made.canonical for made in (world().statement, world().epoch, world().challenge)
        ],
        shape="json",
    ),
    "model-lock": Target(run=run_model_lock, seeds=lambda: [seeds.model_lock()], shape="json"),
    "claims": Target(
        run=run_claims,
        seeds=lambda: _json(parse_receipt(world().token).jws.payload),
        shape="json",
    ),
    "receipt": Target(run=run_receipt, seeds=lambda: [world().token.encode()], shape="jws"),
    "openings": Target(
        run=partial(run_canonical, parse_openings),
        seeds=lambda: _json(world().openings.to_json()),
        shape="json",
    ),
    "openings-header": Target(
        run=run_openings_header,
        seeds=lambda: [world().openings.encode_header().encode()],
        shape="json64",
    ),
    "engine-json": Target(run=run_engine_json, seeds=_any_json, shape="json"),
    "sse": Target(run=run_sse, seeds=lambda: [seeds.stream()[:400], b"data: a\r\n\r\n\r\r\n"]),
    "find-block": Target(run=run_find_block, seeds=lambda: [seeds.stream()]),
    "bundle": Target(
        run=run_bundle,
        seeds=lambda: [world().bundle, seeds.whole_log().bundle().encode()],
        shape="json",
    ),
    "verify": Target(
        run=run_verify,
        seeds=lambda: [
            world().bundle,
            seeds.whole_log().bundle().encode(),
            world().token.encode(),
        ],
        shape="json",
    ),
    "wire-frames": Target(run=wire.run_frames, seeds=wire.frames),
    "wire-to-notary": Target(run=wire.run_to_notary, seeds=wire.to_notary, shape="json"),
    "wire-from-notary": Target(run=wire.run_from_notary, seeds=wire.from_notary, shape="json"),
    "policy": Target(run=policies.run_policy, seeds=lambda: [seeds.policy()], shape="text"),
    "policy-signature": Target(run=policies.run_signature, seeds=policies.signatures, shape="text"),
    "note-key": Target(run=policies.run_note_key, seeds=policies.note_keys, shape="text"),
    "policy-cases": Target(run=policies.run_cases, seeds=policies.cases, shape="text"),
    "measurements-json": Target(
        run=policies.run_measurements, seeds=policies.measurements, shape="json"
    ),
    "firmware": Target(run=measured.run_firmware, seeds=measured.firmware),
    "pe-image": Target(run=measured.run_pe, seeds=measured.images),
    "uki": Target(run=measured.run_uki, seeds=measured.ukis),
    "partition-table": Target(run=measured.run_gpt, seeds=measured.disks),
    "variable-store": Target(run=measured.run_variables, seeds=measured.variables),
    "signature-database": Target(run=measured.run_signatures, seeds=measured.signatures),
    "measurements": Target(
        run=measured.run_measurements, seeds=measured.measurements, shape="json"
    ),
    "tpm-log": Target(run=measured.run_tpm_log, seeds=measured.tpm_logs),
    "verity-superblock": Target(run=released.run_superblock, seeds=released.superblocks),
    "pack-table": Target(run=released.run_table, seeds=released.tables),
    "pack-description": Target(
        run=released.run_description, seeds=released.descriptions, shape="json"
    ),
    "engine-lock": Target(run=released.run_engine_lock, seeds=released.engine_locks, shape="json"),
    "pack-roots": Target(run=released.run_command_line, seeds=released.command_lines),
    "release-envelope": Target(run=released.run_envelope, seeds=released.envelopes, shape="json"),
    "release": Target(run=released.run_release, seeds=released.releases, shape="json"),
    "lineage": Target(run=run_lineage, seeds=lambda: [TRACEPARENT, b"task-1\na,b"], shape="text"),
}


def _ccel_table() -> bytes:
    table = bytearray(b"CCEL" + (56).to_bytes(4, "little") + bytes(48))
    table[9] = -sum(table) % 256
    return bytes(table)
