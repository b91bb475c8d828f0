"""Statements have one byte form, and a quote is bound to exactly that."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attestation import statement as package
from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.merkle.tree import inclusion_path, leaf_hash, verify_inclusion
from attestation.statement import (
    BootStatement,
    ChallengeStatement,
    EpochStatement,
    PreviousBoot,
    Statement,
    grants_digest,
    log_origin,
    nonce_root,
    parse_boot_statement,
    parse_challenge_statement,
    parse_epoch_statement,
    parse_statement,
    report_data,
)

BOOTSEED = bytes(range(32))
NAME = "gateway.example"


def digest(label: str) -> Digest:
    return Digest.of(label.encode())


def checkpoint_note() -> str:
    key = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    origin = log_origin(NAME, b"\x01" * 32)
    text = Checkpoint(origin=origin, size=9, root=bytes(32)).text
    return sign_note(text, origin, key)


def boot() -> BootStatement:
    return BootStatement(
        bootseed=BOOTSEED,
        keyset_digest=digest("keyset"),
        log_origin=log_origin(NAME, BOOTSEED),
        config_digest=digest("config"),
        time_claimed=1_763_668_800,
    )


def full_boot() -> BootStatement:
    return replace(
        boot(),
        model_digest=digest("model"),
        image="registry.example/gateway@sha256:0123",
        gpu_digest=digest("gpu"),
        prev=PreviousBoot(checkpoint=checkpoint_note(), quote_digest=digest("quote")),
    )


def epoch() -> EpochStatement:
    return EpochStatement(
        bootseed=BOOTSEED,
        boot_quote_digest=digest("boot quote"),
        keyset_digest=digest("keyset"),
        epoch=1,
        size=3,
        root=digest("root"),
        checkpoint_digest=digest("checkpoint"),
        prev_quote_digest=digest("boot quote"),
        grants_digest=digest("grants"),
        admitted=4,
        completed=2,
        in_flight=2,
        unauthenticated=7,
        refused_unreceipted=1,
        time_claimed=1_763_668_810,
        gpu_digest=digest("gpu"),
    )


def challenge() -> ChallengeStatement:
    return ChallengeStatement(
        bootseed=BOOTSEED,
        boot_quote_digest=digest("boot quote"),
        keyset_digest=digest("keyset"),
        nonce_root=nonce_root([bytes(32)]),
        size=3,
        root=digest("root"),
    )


STATEMENTS: list[Statement] = [boot(), full_boot(), epoch(), replace(epoch(), gpu_digest=None)]
STATEMENTS += [challenge(), replace(challenge(), size=1), replace(epoch(), size=1, epoch=0)]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statement_survives_being_written_and_read(statement: Statement) -> None:
    assert parse_statement(jcs.parse_canonical(statement.canonical)) == statement


@pytest.mark.parametrize("statement", STATEMENTS)
def test_report_data_is_the_hash_of_the_canonical_form_and_zeros(statement: Statement) -> None:
    canonical = jcs.canonicalize(statement.to_json())
    assert statement.canonical == canonical
    assert statement.digest == Digest.of(canonical)
    assert statement.report_data == hashlib.sha256(canonical).digest() + bytes(32)
    assert statement.report_data == report_data(canonical)


def test_boot_statement_is_written_as_documented() -> None:
    assert boot().to_json() == {
        "bootseed": BOOTSEED.hex(),
        "config_digest": digest("config").hex,
        "gpu_digest": None,
        "image": None,
        "keyset_digest": digest("keyset").hex,
        "log_origin": "gateway.example/0001020304050607",
        "model_digest": None,
        "prev": None,
        "purpose": "attested-gateway/boot/v1",
        "time_claimed": 1_763_668_800,
    }


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statement_lacking_a_member_is_refused(statement: Statement) -> None:
    for name in statement.to_json():
        document = statement.to_json()
        del document[name]
        with pytest.raises(MalformedError):
            parse_statement(document)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statement_with_an_unknown_member_is_refused(statement: Statement) -> None:
    with pytest.raises(MalformedError) as refused:
        parse_statement(statement.to_json() | {"nonce": None})
    assert refused.value.code == "unknown_member"


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statement_of_one_purpose_is_not_read_as_another(statement: Statement) -> None:
    parsers = (parse_boot_statement, parse_epoch_statement, parse_challenge_statement)
    read = 0
    for parse in parsers:
        try:
            parse(statement.to_json())
        except MalformedError:
            continue
        read += 1
    assert read == 1


@pytest.mark.parametrize("purpose", ["attested-gateway/boot/v2", "", None, 1])
def test_unknown_purpose_is_refused(purpose: object) -> None:
    with pytest.raises(MalformedError):
        parse_statement(boot().to_json() | {"purpose": purpose})


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_statement_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(MalformedError):
        parse_statement(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"bootseed": "00"},
        {"bootseed": BOOTSEED.hex().upper()},
        {"bootseed": (b"\x01" * 32).hex()},
        {"log_origin": "gateway.example"},
        {"log_origin": "gateway.example/0001020304050608"},
        {"log_origin": "gate way/0001020304050607"},
        {"log_origin": "x" * 49 + "/0001020304050607"},
        {"image": ""},
        {"image": "with space"},
        {"time_claimed": -1},
        {"time_claimed": 1.0},
        {"keyset_digest": None},
        {"config_digest": "x"},
        {"gpu_digest": "0" * 63},
        {"prev": {}},
        {"prev": "text"},
    ],
)
def test_boot_statement_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse_boot_statement(boot().to_json() | changes)


@pytest.mark.parametrize(
    "checkpoint",
    [
        "",
        "not a note\n",
        checkpoint_note().replace("\n9\n", "\n09\n"),
        checkpoint_note().replace("\n\n", "\nextension\n\n"),
        checkpoint_note() + "x" * 5000,
        None,
    ],
)
def test_previous_boot_without_a_signed_checkpoint_is_refused(checkpoint: object) -> None:
    document = copy.deepcopy(full_boot().to_json())
    document["prev"]["checkpoint"] = checkpoint
    with pytest.raises(MalformedError):
        parse_boot_statement(document)


@pytest.mark.parametrize("changes", [{"size": 0}, {"epoch": -1}, {"root": None}, {"admitted": "1"}])
def test_epoch_statement_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse_epoch_statement(epoch().to_json() | changes)


@pytest.mark.parametrize("changes", [{"size": 0}, {"nonce_root": None}, {"bootseed": None}])
def test_challenge_statement_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse_challenge_statement(challenge().to_json() | changes)


json_values = st.none() | st.booleans() | st.integers() | st.text(max_size=70) | st.lists(st.none())


@pytest.mark.parametrize("statement", STATEMENTS)
@given(data=st.data())
def test_any_value_in_any_place_is_refused_or_read_back_the_same(
    statement: Statement, data: st.DataObject
) -> None:
    document = statement.to_json()
    document[data.draw(st.sampled_from(sorted(document)))] = data.draw(json_values)
    try:
        parsed = parse_statement(document)
    except MalformedError:
        return
    assert parsed.to_json() == document


@pytest.mark.parametrize("name", ["", "with space", "plus+sign", "x" * 49, "ü", "a\n"])
def test_name_that_a_log_could_not_carry_is_refused(name: str) -> None:
    with pytest.raises(MalformedError) as refused:
        log_origin(name, BOOTSEED)
    assert refused.value.code == "log_name"


def test_nonce_root_proves_every_nonce_that_waited() -> None:
    nonces = [bytes([number]) * 32 for number in range(5)]
    leaves = [leaf_hash(nonce) for nonce in nonces]
    root = nonce_root(nonces)
    for index, leaf in enumerate(leaves):
        path = inclusion_path(index, leaves)
        verify_inclusion(leaf_hash=leaf, index=index, size=5, path=path, root=root.value)


def test_grants_digest_is_that_of_the_distinct_digests_in_order() -> None:
    one, two = sorted((digest("one"), digest("two")), key=lambda found: found.hex)
    expected = Digest.of(f'["{one.hex}","{two.hex}"]'.encode())
    assert grants_digest([two, one, two]) == expected
    assert grants_digest(iter([one, two])) == expected
    assert grants_digest([]) == Digest.of(b"[]")
    assert grants_digest([one]) != expected


def test_package_offers_what_it_lists() -> None:
    assert {name for name in package.__all__ if not hasattr(package, name)} == set()
