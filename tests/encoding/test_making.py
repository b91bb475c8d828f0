"""Values made quickly are the ones that their class makes."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from attestation.encoding.digest import Digest
from attestation.encoding.making import maker_of
from attestation.receipt.claims import Attempt, End
from attestation.receipt.outcome import LineageContext, Outcome

ATTEMPT = Attempt(upstream="engine", local=True, outcome="ok", milliseconds=3)
OUTCOME = Outcome(
    jti="0" * 32,
    method="POST",
    path="/v1/chat/completions",
    sub=Digest.of(b"sub"),
    grant_digest=Digest.of(b"grant"),
    lineage=LineageContext(txn="task", span="0" * 16),
    inline=True,
    end=End.COMPLETE,
    status=200,
)


def members(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


@pytest.mark.parametrize("value", [ATTEMPT, OUTCOME, Digest.of(b"x"), OUTCOME.lineage])
def test_value_made_quickly_is_the_same_value(value: Any) -> None:
    make = maker_of(type(value))
    for made in (make(**members(value)), make(*members(value).values())):
        assert type(made) is type(value)
        assert (made, hash(made), repr(made)) == (value, hash(value), repr(value))
        assert replace(made) == copy.copy(made) == pickle.loads(pickle.dumps(made)) == value  # noqa: S301 - our own bytes


def test_value_made_quickly_is_frozen() -> None:
    made = maker_of(Attempt)("engine", local=True, outcome="ok", milliseconds=3)
    with pytest.raises(FrozenInstanceError):
        made.upstream = "another"  # type: ignore[misc]
    assert made == ATTEMPT


def test_every_field_has_to_be_given() -> None:
    with pytest.raises(TypeError, match="milliseconds"):
        maker_of(Attempt)("engine", local=True, outcome="ok")
