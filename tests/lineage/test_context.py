"""Lineage headers: a bad trace is no error, bad task and parent text is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.lineage import context as module
from attestation.lineage.context import LineageContext, lineage_from_headers, parse_traceparent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
RANDOM_TRACE = "f" * 32
RANDOM_SPAN = "e" * 16


def context(
    traceparent: str | None = None, task_id: str | None = None, parents: str | None = None
) -> LineageContext:
    return lineage_from_headers(
        traceparent, task_id, parents, random_trace=RANDOM_TRACE, random_span=RANDOM_SPAN
    )


@pytest.mark.parametrize(
    "text",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-ff",
        f"01-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-brings",
        f"fe-{TRACE}-{PARENT}-01-",
    ],
)
def test_traceparent_is_read(text: str) -> None:
    assert parse_traceparent(text) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}0-01",
        f"cc-{TRACE}-{PARENT}-01.more",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00_{TRACE}_{PARENT}_01",
        f"00-{TRACE}-{PARENT}-0\u0661",
    ],
)
def test_malformed_traceparent_is_no_error(text: str | None) -> None:
    assert parse_traceparent(text) is None
    assert context(text) == LineageContext(txn=RANDOM_TRACE, span=RANDOM_SPAN)


@given(st.text(max_size=70))
def test_any_traceparent_is_read_or_ignored(text: str) -> None:
    read = parse_traceparent(text)
    assert read is None or (len(read[0]), len(read[1])) == (32, 16)


def test_trace_id_is_the_task_unless_one_is_named() -> None:
    trace = f"00-{TRACE}-{PARENT}-01"
    assert context(trace) == LineageContext(txn=TRACE, span=RANDOM_SPAN, parent_span=PARENT)
    assert context(trace, "review/7") == LineageContext(
        txn="review/7", span=RANDOM_SPAN, parent_span=PARENT
    )


@pytest.mark.parametrize("text", ["", "with space", "x" * 129, "ü", "a\nb", 'a"b', "a,b"])
def test_task_id_outside_its_alphabet_is_refused(text: str) -> None:
    with pytest.raises(MalformedError) as refused:
        context(task_id=text)
    assert refused.value.code == "task_id"


def test_parents_are_a_list_in_the_order_of_the_caller() -> None:
    listed = f"b, a ,\tchatcmpl-{TRACE},, a"
    assert context(parents=listed).parents == ("b", "a", f"chatcmpl-{TRACE}")


@pytest.mark.parametrize("listed", [None, "", " ", ",,", " , "])
def test_no_parents_are_no_error(listed: str | None) -> None:
    assert context(parents=listed).parents == ()


def test_sixteen_parents_are_accepted_and_seventeen_refused() -> None:
    names = [f"p{number}" for number in range(17)]
    assert context(parents=",".join(names[:16])).parents == tuple(names[:16])
    with pytest.raises(MalformedError) as refused:
        context(parents=",".join(names))
    assert refused.value.code == "parents"


@pytest.mark.parametrize("listed", ["a b", "a,ü", "x" * 129, 'a,"b"'])
def test_parent_outside_its_alphabet_is_refused(listed: str) -> None:
    with pytest.raises(MalformedError) as refused:
        context(parents=listed)
    assert refused.value.code == "parents"


@given(st.text(max_size=40), st.text(max_size=40))
def test_refusals_never_quote_the_callers_text(task: str, parents: str) -> None:
    with pytest.raises(MalformedError) as refused:
        context(None, "\x00" + task, parents)
    assert "\x00" not in str(refused.value)


@pytest.mark.parametrize("repeated", [True, False])
def test_hint_that_a_request_is_a_repeat_is_kept(repeated: bool) -> None:
    kept = lineage_from_headers(
        None, None, None, random_trace=RANDOM_TRACE, random_span=RANDOM_SPAN, repeated=repeated
    )
    assert kept.repeated is repeated
    assert context().repeated is False


def test_module_offers_what_it_lists() -> None:
    assert {name for name in module.__all__ if not hasattr(module, name)} == set()
