"""flashbots' measurements.json: what it names is accepted, and what it leaves open is refused."""

from __future__ import annotations

import itertools
import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError, UsageError
from attestation.policy import ReferenceValues, TdxRules, parse_policy
from attestation.policy.measurements_json import MAX_TUPLES, import_measurements
from attestation.policy.toml import toml_comment, toml_pair, toml_value
from tests.refusals import refusal

NAMES = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")


def value(number: int) -> str:
    return f"{number:02x}" * 48


def registers(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {name: {"expected": value(n)} for n, name in enumerate(NAMES)}
    return {name: told for name, told in (plain | changes).items() if told is not None}


def entry(measurements: Any = None, **changes: Any) -> dict[str, Any]:
    plain = {
        "measurement_id": "image-1",
        "attestation_type": "dcap-tdx",
        "measurements": registers() if measurements is None else measurements,
    }
    return plain | changes


def imported(*entries: Any) -> tuple[ReferenceValues, ...]:
    text = import_measurements(json.dumps(entries).encode())
    policy = parse_policy(text.encode())
    assert policy.tdx == TdxRules()
    assert policy.require_anchored
    return policy.reference_values


def refused(*entries: Any) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        import_measurements(json.dumps(entries).encode())
    return caught.value


def test_every_register_of_the_source_is_pinned() -> None:
    (values,) = imported(entry())
    assert values == ReferenceValues(
        name="image-1",
        mrtd=bytes([0]) * 48,
        rtmr0=bytes([1]) * 48,
        rtmr1=bytes([2]) * 48,
        rtmr2=bytes([3]) * 48,
        rtmr3=bytes([4]) * 48,
    )


def test_numbers_and_names_of_registers_mean_the_same() -> None:
    by_number = {str(n): {"expected": value(n).upper()} for n in range(5)}
    by_name = {name.upper(): {"expected_any": [value(n)]} for n, name in enumerate(NAMES)}
    assert imported(entry(by_number)) == imported(entry(by_name)) == imported(entry())


def test_absent_rtmr3_is_replayed_and_the_policy_says_that_the_source_is_silent() -> None:
    (values,) = imported(entry(registers(rtmr3=None)))
    assert values.rtmr3 is None
    assert values.events == ()
    text = import_measurements(json.dumps([entry(registers(rtmr3=None))]).encode())
    assert 'not in the source: the event log has to account for all of it\nrtmr3 = "replay"' in text
    for silent in ("xfam", "mrseam", "[platform]", "unbound_keys"):
        assert silent in text


def test_several_values_become_whole_tuples_in_every_combination() -> None:
    several = registers(
        mrtd={"expected_any": [value(10), value(11)]},
        rtmr2={"expected_any": [value(20), value(21), value(22)]},
    )
    tuples = imported(entry(several), entry(measurement_id="other"))
    assert [one.name for one in tuples] == [*(f"image-1 ({n} of 6)" for n in range(1, 7)), "other"]
    found = {(one.mrtd[0], one.rtmr2[0]) for one in tuples[:6]}
    assert found == set(itertools.product((10, 11), (20, 21, 22)))
    assert {one.rtmr1 for one in tuples} == {bytes([2]) * 48}


def test_combinations_are_bounded_over_the_whole_file() -> None:
    many = {"expected_any": [value(n) for n in range(16)]}
    full = entry(registers(mrtd=many, rtmr0=many))
    assert len(imported(full)) == MAX_TUPLES == 256
    error = refused(full, entry(measurement_id="one more"))
    assert error.observed == "1 here, 0 left"
    thrice = {"expected_any": [value(n) for n in range(100)]}
    error = refused(entry(registers(mrtd=thrice, rtmr0=thrice, rtmr1=thrice)))
    assert error.observed == "1000000 here"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("told", [{"expected_any": []}, {"expected": ""}, {}, [], None, value(1)])
def test_empty_register_is_refused_and_never_read_as_any_value(name: str, told: Any) -> None:
    measurements = registers() | {name: told}
    error = refused(entry(measurements))
    assert "[0].measurements" in error.message
    assert name in error.message


@pytest.mark.parametrize("document", [b"[]", b"{}", b'{"azure-tdx": {}}', b"null", b'"x"'])
def test_document_that_names_no_entry_is_refused(document: bytes) -> None:
    assert refusal(import_measurements, document) == "measurements"


@pytest.mark.parametrize("name", NAMES[:4])
def test_register_that_is_not_named_is_refused(name: str) -> None:
    error = refused(entry(registers(**{name: None})))
    assert error.observed == f"no {name}"
    assert error.message.startswith("[0].measurements ")


def test_entry_without_measurements_is_refused() -> None:
    assert refused(entry({})).observed == "no mrtd, rtmr0, rtmr1, rtmr2"
    lacking = entry()
    del lacking["measurements"]
    assert refused(lacking).code == "missing_member"
    assert refused(entry(), "image").code == "member_type"


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("azure-tdx", "vTPM"),
        ("gcp-tdx", "dcap-tdx"),
        ("qemu-tdx", "dcap-tdx"),
        ("none", "no evidence"),
        ("DCAP-TDX", "no other type"),
        ("", "no other type"),
    ],
)
def test_other_attestation_type_is_refused_with_its_reason(kind: str, hint: str) -> None:
    error = refused(entry(), entry(attestation_type=kind, measurement_id="b"))
    assert error.message.startswith("[1].attestation_type")
    assert hint in error.hint


@pytest.mark.parametrize("key", ["5", "00", "-1", "rtmr4", "pcr4", "mrseam", "", "0 "])
def test_unknown_register_is_refused(key: str) -> None:
    assert "a register" in refused(entry(registers() | {key: {"expected": value(0)}})).expected


def test_register_under_two_names_is_refused() -> None:
    assert "[0].measurements.mrtd" in refused(entry(registers() | {"0": {}})).message


@pytest.mark.parametrize("text", [value(0)[:-1], value(0) + "0", "0x" + value(0)[2:], "g" * 96])
def test_value_of_another_length_or_alphabet_is_refused(text: str) -> None:
    assert refused(entry(registers(mrtd={"expected": text}))).code == "member_value"
    assert refused(entry(registers(mrtd={"expected_any": [value(0), text]}))).code == "member_value"


def test_value_given_twice_is_refused() -> None:
    twice = {"expected_any": [value(10), value(10).upper()]}
    assert refused(entry(registers(mrtd=twice))).expected == "each value once"


def test_one_value_and_a_list_of_them_are_not_both_taken() -> None:
    both = {"expected": value(0), "expected_any": [value(0)]}
    assert refused(entry(registers(mrtd=both))).code == "unknown_member"


def test_register_that_only_warns_is_refused_and_one_that_says_it_does_not_is_read() -> None:
    told = {"expected": value(0), "warnOnly": True}
    assert refused(entry(registers(mrtd=told))).expected == "false"
    assert imported(entry(registers(mrtd=told | {"warnOnly": False}))) == imported(entry())


def test_member_that_the_importer_does_not_know_is_refused() -> None:
    assert refused(entry(dcap_image_hashes={})).code == "unknown_member"


@pytest.mark.parametrize("name", ["", "a\nb", '"', " a", "é", "a" * 101])
def test_name_that_no_tuple_can_have_is_refused(name: str) -> None:
    if name == '"':
        assert imported(entry(measurement_id=name))[0].name == name
    else:
        assert refused(entry(measurement_id=name)).code == "member_value"


def test_names_that_two_entries_share_are_refused() -> None:
    assert refused(entry(), entry()).code == "policy_value"


def test_duplicate_member_is_refused_at_any_depth() -> None:
    text = json.dumps([entry()])
    told = f'{{"expected": "{value(0)}"}}'
    assert told in text
    for twice in (
        text.replace(told, f'{{"expected": "{value(0)}", "expected": "{value(9)}"}}'),
        text.replace('"mrtd":', f'"mrtd": {told}, "mrtd":'),
        text.replace('"measurements":', '"measurements": {}, "measurements":'),
    ):
        assert refusal(import_measurements, twice.encode()) == "duplicate_member"


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda item: json.dumps(item).encode())
)
def test_whatever_the_bytes_only_a_refusal_leaves(data: bytes) -> None:
    with pytest.raises(MalformedError):
        import_measurements(data)


_REGISTER = st.binary(min_size=48, max_size=48).map(bytes.hex)
_ANY_OF = st.lists(_REGISTER, min_size=1, max_size=3, unique=True)
_ENTRY = st.fixed_dictionaries(dict.fromkeys(NAMES[:4], _ANY_OF), optional={"rtmr3": _ANY_OF})


@given(
    st.lists(_ENTRY, min_size=1, max_size=2), st.from_regex(r"[\x21-\x7e]{1,20}", fullmatch=True)
)
def test_the_policy_accepts_exactly_the_combinations_that_the_source_accepts(
    told: list[dict[str, list[str]]], name: str
) -> None:
    entries = [
        entry({k: {"expected_any": v} for k, v in one.items()}, measurement_id=f"{n}{name}")
        for n, one in enumerate(told)
    ]
    wanted = [
        dict(zip(one, chosen, strict=True))
        for one in told
        for chosen in itertools.product(*one.values())
    ]
    if len(wanted) > MAX_TUPLES:
        assert refused(*entries).code == "measurements"
        return
    found = [
        {key: told.hex() for key in NAMES if (told := getattr(one, key)) is not None}
        for one in imported(*entries)
    ]
    assert sorted(found, key=repr) == sorted(
        ({key: one[key] for key in NAMES if key in one} for one in wanted), key=repr
    )


_SCALARS = st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text()
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


@given(st.dictionaries(st.text(), _VALUES))
def test_whatever_is_written_reads_back_as_it_was(table: dict[str, Any]) -> None:
    text = "\n".join(toml_pair(key, item) for key, item in table.items())
    assert tomllib.loads(text) == table


@given(st.text())
def test_comment_stays_a_comment(text: str) -> None:
    line = toml_comment(text)
    assert "\n" not in line
    assert tomllib.loads(line + "\n") == {}


def test_tuples_are_written_as_arrays_and_what_has_no_form_is_refused() -> None:
    assert toml_value((1, "a")) == '[1, "a"]'
    assert refusal(toml_value, 1.5, error=UsageError) == "toml"
    assert refusal(toml_value, "\ud800", error=UsageError) == "toml"
