from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.checks import ANCHORING, CHECKS, FLOOR
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.policy import (
    NO_POLICY,
    AdvisoryRule,
    AttributeRule,
    ListedMachine,
    PlatformRules,
    RequiredEvent,
    StatusRule,
    TdxRules,
    parse_policy,
)
from tests.refusals import refusal

EXAMPLES = Path(__file__).parents[2] / "examples"
ZERO = '"' + "0" * 96 + '"'
V = f"value = '{'00' * 16}'"
DIGEST = '"' + "ab" * 32 + '"'
TUPLE = f"""
[[reference_values]]
name = "one"
mrtd = {ZERO}
rtmr0 = {ZERO}
rtmr1 = {ZERO}
rtmr2 = {ZERO}
rtmr3 = "replay"
"""


def policy_text(before: str = "", *, tuples: str = TUPLE) -> bytes:
    return f'schema = "appraisal-policy/1"\n{before}\n{tuples}'.encode()


def test_smallest_policy_has_the_strict_defaults() -> None:
    policy = parse_policy(policy_text())
    assert policy.tdx == TdxRules()
    assert policy.tdx.tcb_status == (StatusRule(status="UpToDate"),)
    assert policy.tdx.advisories == ()
    assert policy.tdx.attributes == AttributeRule(value=0x10000000, mask=(1 << 64) - 1)
    assert policy.tdx.xfam == (0x602E7, 0x600E7)
    assert not policy.tdx.unbound_keys
    assert policy.tdx.max_key_events == 1
    assert policy.require_anchored
    assert not policy.require_complete
    assert policy.required == FLOOR
    assert policy.platform == PlatformRules()
    (values,) = policy.reference_values
    assert values.rtmr3 is None
    assert values.mrconfigid == values.mrowner == values.mrownerconfig == bytes(48)
    assert policy.version is None
    assert policy.tdx.min_tcb_date is None
    assert policy.tdx.min_tee_tcb_svn is None


def test_digest_of_a_policy_is_that_of_its_file() -> None:
    data = policy_text()
    assert parse_policy(data).digest == Digest.of(data)
    assert parse_policy(data + b"\n# a remark\n").digest != Digest.of(data)
    assert NO_POLICY.digest is None


EVERY_KEY = """
version = "2027-01, second review"
[tdx]
tcb_status = ["UpToDate", {{ status = "OutOfDate", until = 2027-01-01 }}]
advisories = [{{ id = "INTEL-SA-01192", until = 2027-01-01T01:00:00+01:00 }}]
min_tcb_evaluation_number = 18
min_tcb_date = 2027-01-01
min_tee_tcb_svn = "0601{}"
attributes = {{ value = "0x10000000", mask = 0xFFFFFFFF }}
xfam = [0xE7, "0x602e7"]
mrseam = ["{}"]
unbound_keys = "allow"
max_key_events = 3
[endorsements]
max_age_days = 7
[platform]
ppid = ["{}", {{ value = "{}", label = "rack 7", from = 1, until = 2027-01-01 }}]
piid = [{{ value = "{}" }}]
fmspc = ["B0C06F000000", {{ value = "B0C06F000000", from = 0 }}]
sgx_type = ["scalable-with-integrity", "standard"]
dynamic_platform = "allow"
cached_keys = "refuse"
smt = "refuse"
[gpu]
required = true
[log]
require_anchored = false
require_complete = true
[lineage]
require_complete = true
[require]
checks = ["NONCE", "REQUEST-BODY"]
""".format("00" * 14, "AB" * 48, "01" * 16, "03" * 16, "02" * 16)
TWO_TUPLES = f"""
[[reference_values]]
name = "two"
mrtd = "{"01" * 48}"
rtmr0 = "{"02" * 48}"
rtmr1 = "{"03" * 48}"
rtmr2 = "{"04" * 48}"
rtmr3 = "{"05" * 48}"
mrconfigid = "{"06" * 48}"
mrowner = "{"07" * 48}"
mrownerconfig = "{"08" * 48}"
config_digest = {DIGEST}
origin = "gateway.example"
image = "registry/gateway:1"
model = {DIGEST}
[[reference_values]]
name = "three"
mrtd = {ZERO}
rtmr0 = {ZERO}
rtmr1 = {ZERO}
rtmr2 = {ZERO}
rtmr3 = "replay"
events = [{{ name = "compose-hash", digest = "{"07" * 48}" }}]
"""


def test_every_key_reaches_its_place() -> None:
    policy = parse_policy(policy_text(EVERY_KEY, tuples=TWO_TUPLES))
    year_2027 = 1_798_761_600
    assert policy.tdx.tcb_status[1] == StatusRule(status="OutOfDate", until=year_2027)
    assert policy.tdx.advisories == (AdvisoryRule(id="INTEL-SA-01192", until=year_2027),)
    assert policy.tdx.min_tcb_evaluation_number == 18
    assert policy.tdx.attributes == AttributeRule(value=0x10000000, mask=0xFFFFFFFF)
    assert policy.tdx.xfam == (0xE7, 0x602E7)
    assert policy.tdx.mrseam == (b"\xab" * 48,)
    assert policy.tdx.unbound_keys
    assert policy.tdx.max_key_events == 3
    assert policy.max_age_days == 7
    assert policy.version == "2027-01, second review"
    assert policy.tdx.min_tcb_date == year_2027
    assert policy.tdx.min_tee_tcb_svn == b"\x06\x01" + bytes(14)
    fmspc = bytes.fromhex("b0c06f000000")
    assert policy.platform == PlatformRules(
        ppid=(
            ListedMachine(value=b"\x01" * 16),
            ListedMachine(value=b"\x03" * 16, label="rack 7", since=1, until=year_2027),
        ),
        piid=(ListedMachine(value=b"\x02" * 16),),
        fmspc=(ListedMachine(value=fmspc), ListedMachine(value=fmspc, since=0)),
        sgx_type=(2, 0),
        dynamic_platform=True,
        cached_keys=False,
        smt=False,
    )
    two, three = policy.reference_values
    registers = [two.mrtd, two.rtmr0, two.rtmr1, two.rtmr2, two.rtmr3]
    registers += [two.mrconfigid, two.mrowner, two.mrownerconfig]
    assert registers == [bytes([n]) * 48 for n in range(1, 9)]
    assert two.config_digest == two.model == Digest(b"\xab" * 32)
    assert (two.origin, two.image) == ("gateway.example", "registry/gateway:1")
    assert three.events == (RequiredEvent(name="compose-hash", digest=b"\x07" * 48),)
    assert policy.required == FLOOR - ANCHORING | {
        "GPU-GENUINE",
        "GPU-MEASUREMENTS",
        "GPU-BINDING",
        "EPOCH-CHAIN",
        "LINEAGE-COMPLETE",
        "PLATFORM",
        "NONCE",
        "REQUEST-BODY",
    }


def test_anchoring_can_be_required_again_by_name() -> None:
    policy = parse_policy(
        policy_text('[log]\nrequire_anchored = false\n[require]\nchecks = ["LOG-INCLUSION"]')
    )
    assert "LOG-INCLUSION" in policy.required
    assert "EPOCH-QUOTE" not in policy.required


def test_platform_check_cannot_be_required_without_a_list() -> None:
    required = "[require]\nchecks = ['PLATFORM']\n"
    assert refusal(parse_policy, policy_text(required)) == "policy_value"
    listed = f"{required}[platform]\nfmspc = ['{'00' * 6}']"
    assert "PLATFORM" in parse_policy(policy_text(listed)).require
    allowed = f"{required}[platform]\nsmt = 'allow'"
    assert refusal(parse_policy, policy_text(allowed)) == "policy_value"


@pytest.mark.parametrize(
    ("line", "named", "demanding"),
    [
        ("", False, False),
        ("ppid = ['{16}']", True, True),
        ("piid = ['{16}']", True, True),
        ("fmspc = ['{6}']", True, True),
        ("sgx_type = ['standard']", False, True),
        ("dynamic_platform = 'refuse'", False, True),
        ("cached_keys = 'refuse'", False, True),
        ("smt = 'refuse'", False, True),
        ("smt = 'allow'\ncached_keys = 'allow'\ndynamic_platform = 'allow'", False, False),
    ],
)
def test_platform_check_is_required_by_whatever_a_machine_could_fail(
    line: str, named: bool, demanding: bool
) -> None:
    values = line.replace("{16}", "00" * 16).replace("{6}", "00" * 6)
    policy = parse_policy(policy_text(f"[platform]\n{values}"))
    assert policy.platform.names_machines is named
    assert policy.platform.demands is demanding
    assert ("PLATFORM" in policy.required) is demanding


def test_entry_counts_from_its_beginning_to_before_its_end() -> None:
    always = ListedMachine(value=b"")
    assert always.counts(0)
    entry = ListedMachine(value=b"", since=10, until=12)
    assert [entry.counts(at) for at in (9, 10, 11, 12)] == [False, True, True, False]
    assert ListedMachine(value=b"", since=10).counts(1 << 40)
    assert ListedMachine(value=b"", until=10).counts(0)


def test_empty_tables_are_defaults() -> None:
    tables = "".join(
        f"[{name}]\n"
        for name in ("tdx", "endorsements", "platform", "gpu", "log", "lineage", "require")
    )
    assert parse_policy(policy_text(tables)).required == FLOOR


@pytest.mark.parametrize(
    ("before", "code", "said"),
    [
        ("colour = 1", "policy_unknown", "colour"),
        ("[tdx]\ncolour = 1", "policy_unknown", "tdx.colour"),
        ("[tdx]\ntcb_statuss = 1", "policy_unknown", 'did you mean "tcb_status"?'),
        ("[tdx]\n'a\\u001b[31m' = 1", "policy_unknown", "tdx."),
        ("[endorsements]\nmax_age = 1", "policy_unknown", "max_age_days"),
        ("[platform]\nppids = []", "policy_unknown", 'did you mean "ppid"?'),
        ("[gpu]\nx = true", "policy_unknown", "gpu.x"),
        ("[log]\nx = true", "policy_unknown", "log.x"),
        ("[lineage]\nx = true", "policy_unknown", "lineage.x"),
        ("[require]\ncheck = []", "policy_unknown", "require.check"),
        ("tdx = 1", "policy_value", "tdx"),
        ("[[tdx]]", "policy_value", "tdx"),
        ("[tdx]\ntcb_status = []", "policy_empty", "tdx.tcb_status"),
        ("[tdx]\nadvisories = []", "policy_empty", "tdx.advisories"),
        ("[tdx]\nxfam = []", "policy_empty", "tdx.xfam"),
        ("[tdx]\nmrseam = []", "policy_empty", "tdx.mrseam"),
        ("[platform]\nppid = []", "policy_empty", "platform.ppid"),
        ("[platform]\npiid = []", "policy_empty", "platform.piid"),
        ("[platform]\nfmspc = []", "policy_empty", "platform.fmspc"),
        ("[require]\nchecks = []", "policy_empty", "require.checks"),
        ("[tdx]\ntcb_status = 'UpToDate'", "policy_value", "tdx.tcb_status"),
        ("[tdx]\ntcb_status = [1]", "policy_value", "tdx.tcb_status[0]"),
        ("[tdx]\ntcb_status = ['uptodate']", "policy_value", "tdx.tcb_status[0]"),
        ("[tdx]\ntcb_status = ['Revoked']", "policy_value", "tdx.tcb_status[0]"),
        ("[tdx]\ntcb_status = ['OutOfDate']", "policy_value", "until"),
        ("[tdx]\ntcb_status = ['TDRelaunchAdvised']", "policy_value", "until"),
        ("[tdx]\ntcb_status = [{status = 'OutOfDate'}]", "policy_missing", "until"),
        ("[tdx]\ntcb_status = [{until = 2027-01-01}]", "policy_missing", "status"),
        (
            "[tdx]\ntcb_status = [{status = 'OutOfDate', until = 2027-01-01T00:00:00}]",
            "policy_value",
            "offset",
        ),
        ("[tdx]\ntcb_status = [{status = 'OutOfDate', until = 'x'}]", "policy_value", "until"),
        ("[tdx]\ntcb_status = [{status = 'OutOfDate', until = -1}]", "policy_value", "until"),
        ("[tdx]\ntcb_status = [{status = 'OutOfDate', until = true}]", "policy_value", "until"),
        (
            "[tdx]\ntcb_status = [{status = 'OutOfDate', until = 1, x = 1}]",
            "policy_unknown",
            "tdx.tcb_status[0].x",
        ),
        ("[tdx]\nadvisories = ['INTEL-SA-1']", "policy_value", "tdx.advisories[0]"),
        ("[tdx]\nadvisories = [{id = 'INTEL-SA-1'}]", "policy_missing", "until"),
        ("[tdx]\nadvisories = [{id = 'x y', until = 1}]", "policy_value", "id"),
        ("[tdx]\nadvisories = [{id = 'INTEL', until = 1, z = 1}]", "policy_unknown", "z"),
        ("[tdx]\nmin_tcb_evaluation_number = -1", "policy_value", "min_tcb"),
        ("[tdx]\nmin_tcb_evaluation_number = true", "policy_value", "min_tcb"),
        ("[tdx]\nmin_tcb_evaluation_number = 2147483648", "policy_value", "min_tcb"),
        ("[tdx]\nattributes = -1", "policy_value", "tdx.attributes"),
        ("[tdx]\nattributes = true", "policy_value", "tdx.attributes"),
        ("[tdx]\nattributes = '10000000'", "policy_value", "tdx.attributes"),
        ("[tdx]\nattributes = '0x10000000000000000'", "policy_value", "tdx.attributes"),
        ("[tdx]\nattributes = 0x10000000000000000", "policy_value", "tdx.attributes"),
        ("[tdx]\nattributes = {value = 1}", "policy_missing", "tdx.attributes.mask"),
        ("[tdx]\nattributes = {mask = 1}", "policy_missing", "tdx.attributes.value"),
        ("[tdx]\nattributes = {value = 0, mask = 0}", "policy_value", "tdx.attributes"),
        ("[tdx]\nattributes = {value = 2, mask = 1}", "policy_value", "tdx.attributes"),
        ("[tdx]\nattributes = {value = 1, mask = 1, x = 1}", "policy_unknown", "attributes.x"),
        ("[tdx]\nxfam = ['e7']", "policy_value", "tdx.xfam[0]"),
        ("[tdx]\nmrseam = ['00']", "policy_value", "tdx.mrseam[0]"),
        ("[tdx]\nmrseam = [0]", "policy_value", "tdx.mrseam[0]"),
        ("[tdx]\nunbound_keys = true", "policy_value", "tdx.unbound_keys"),
        ("[tdx]\nunbound_keys = 'yes'", "policy_value", "tdx.unbound_keys"),
        ("[tdx]\nmax_key_events = 0", "policy_value", "tdx.max_key_events"),
        ("[endorsements]\nmax_age_days = 0", "policy_value", "endorsements.max_age_days"),
        ("[platform]\nppid = ['00']", "policy_value", "platform.ppid[0]"),
        ("[platform]\nfmspc = ['zz0000000000']", "policy_value", "platform.fmspc[0]"),
        ("version = 1", "policy_value", "version"),
        ("version = ''", "policy_value", "version"),
        ('version = "a\\nb"', "policy_value", "version"),
        (f"version = '{'v' * 129}'", "policy_value", "version"),
        ("[tdx]\nmin_tcb_date = '2027-01-01'", "policy_value", "tdx.min_tcb_date"),
        ("[tdx]\nmin_tcb_date = 2027-01-01T00:00:00", "policy_value", "offset"),
        ("[tdx]\nmin_tcb_date = 253402300800", "policy_value", "tdx.min_tcb_date"),
        ("[tdx]\nmin_tcb_date = true", "policy_value", "tdx.min_tcb_date"),
        ("[tdx]\nmin_tcb_date = 9999-12-31T23:59:59-01:00", "policy_value", "1970 to 9999, UTC"),
        ("[tdx]\nmin_tcb_date = 1970-01-01T00:00:00+01:00", "policy_value", "1970 to 9999, UTC"),
        ("[tdx]\nmin_tcb_date = 1969-12-31", "policy_value", "1970 to 9999, UTC"),
        ("[tdx]\nmin_tee_tcb_svn = 3", "policy_value", "tdx.min_tee_tcb_svn"),
        ("[tdx]\nmin_tee_tcb_svn = ''", "policy_value", "32 hexadecimal characters"),
        (f"[tdx]\nmin_tee_tcb_svn = '{'0' * 34}'", "policy_value", "34 characters"),
        ("[platform]\nppid = [{}]", "policy_missing", "platform.ppid[0].value"),
        ("[platform]\nppid = [{value = 1}]", "policy_value", "platform.ppid[0].value"),
        ("[platform]\nppid = [1]", "policy_value", "platform.ppid[0]"),
        (f"[platform]\nppid = [{{{V}, labels = 'x'}}]", "policy_unknown", 'mean "label"?'),
        (f"[platform]\nppid = [{{{V}, label = ''}}]", "policy_value", "ppid[0].label"),
        (f"[platform]\nppid = [{{{V}, label = 1}}]", "policy_value", "ppid[0].label"),
        (f"[platform]\nppid = [{{{V}, from = 'x'}}]", "policy_value", "ppid[0].from"),
        (f"[platform]\nppid = [{{{V}, until = -1}}]", "policy_value", "ppid[0].until"),
        (f"[platform]\nppid = [{{{V}, from = 7, until = 7}}]", "policy_value", "never count"),
        ("[platform]\nsgx_type = []", "policy_empty", "platform.sgx_type"),
        ("[platform]\nsgx_type = 'standard'", "policy_value", "platform.sgx_type"),
        ("[platform]\nsgx_type = [0]", "policy_value", "platform.sgx_type[0]"),
        ("[platform]\nsgx_type = ['Standard']", "policy_value", '"scalable-with-integrity"'),
        ("[platform]\ndynamic_platform = true", "policy_value", "platform.dynamic_platform"),
        ("[platform]\ncached_keys = 'yes'", "policy_value", '"allow" or "refuse"'),
        ("[platform]\nsmt = ''", "policy_value", "platform.smt"),
        ("[platform]\nsmt_enabled = 'refuse'", "policy_unknown", "platform.smt_enabled"),
        ("[gpu]\nrequired = 1", "policy_value", "gpu.required"),
        ("[log]\nrequire_anchored = 0", "policy_value", "log.require_anchored"),
        ("[log]\nrequire_complete = 1", "policy_value", "log.require_complete"),
        ("[lineage]\nrequire_complete = 'no'", "policy_value", "lineage.require_complete"),
        ("[require]\nchecks = ['NONSENSE']", "policy_value", "require.checks[0]"),
        ("[require]\nchecks = ['no']", "policy_value", "require.checks[0]"),
        ("[require]\nchecks = [1]", "policy_value", "require.checks[0]"),
    ],
)
def test_anything_but_the_documented_form_is_refused_with_its_path(
    before: str, code: str, said: str
) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_policy(policy_text(before))
    assert caught.value.code == code
    assert said in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("name", None), "policy_missing", "reference_values[0].name"),
        (("mrtd", None), "policy_missing", "reference_values[0].mrtd"),
        (("rtmr0", None), "policy_missing", "reference_values[0].rtmr0"),
        (("rtmr1", None), "policy_missing", "reference_values[0].rtmr1"),
        (("rtmr2", None), "policy_missing", "reference_values[0].rtmr2"),
        (("rtmr3", None), "policy_missing", "reference_values[0].rtmr3"),
        (("name", "''"), "policy_value", "reference_values[0].name"),
        (("name", "'a\\n'"), "policy_value", "reference_values[0].name"),
        (("mrtd", "'00'"), "policy_value", "reference_values[0].mrtd"),
        (("rtmr0", "0"), "policy_value", "reference_values[0].rtmr0"),
        (("rtmr3", "'Replay'"), "policy_value", "reference_values[0].rtmr3"),
        (("mrconfigid", "'00'"), "policy_value", "reference_values[0].mrconfigid"),
        (("config_digest", "'00'"), "policy_value", "reference_values[0].config_digest"),
        (("model", "'00'"), "policy_value", "reference_values[0].model"),
        (("origin", "''"), "policy_value", "reference_values[0].origin"),
        (("image", "1"), "policy_value", "reference_values[0].image"),
        (("events", "[]"), "policy_empty", "reference_values[0].events"),
        (("events", "['x']"), "policy_value", "reference_values[0].events[0]"),
        (("events", "[{name = 'x'}]"), "policy_missing", "reference_values[0].events[0].digest"),
        (("mrowner", "'00'"), "policy_value", "reference_values[0].mrowner"),
        (("mrownerconfig", "0"), "policy_value", "reference_values[0].mrownerconfig"),
        (("mrowners", ZERO), "policy_unknown", 'did you mean "mrowner"?'),
    ],
)
def test_tuples_are_as_strict(change: tuple[str, str | None], code: str, said: str) -> None:
    key, value = change
    lines = [line for line in TUPLE.splitlines() if not line.startswith(f"{key} ")]
    if value is not None:
        lines.append(f"{key} = {value.replace(chr(39), chr(34))}")
    with pytest.raises(MalformedError) as caught:
        parse_policy(policy_text(tuples="\n".join(lines)))
    assert caught.value.code == code
    assert said in str(caught.value)


def test_register_of_the_wrong_length_says_how_long_and_what_else_is_taken() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_policy(policy_text(tuples=TUPLE.replace('"replay"', '"any"')))
    assert caught.value.expected == '96 hexadecimal characters, or "replay"'
    assert caught.value.observed == "3 characters"


def test_event_with_an_unknown_key_is_refused() -> None:
    event = f"events = [{{ name = 'x', digest = {ZERO}, content = 'y' }}]"
    assert refusal(parse_policy, policy_text(tuples=TUPLE + event)) == "policy_unknown"


def test_events_beside_a_pinned_register_are_refused() -> None:
    pinned = TUPLE.replace('"replay"', ZERO)
    event = f"events = [{{ name = 'x', digest = {ZERO} }}]"
    assert refusal(parse_policy, policy_text(tuples=pinned + event)) == "policy_value"
    assert parse_policy(policy_text(tuples=TUPLE + event)).reference_values[0].events


def test_two_tuples_of_one_name_are_refused() -> None:
    assert refusal(parse_policy, policy_text(tuples=TUPLE + TUPLE)) == "policy_value"


def test_policy_without_reference_values_is_refused() -> None:
    assert refusal(parse_policy, policy_text(tuples="")) == "policy_missing"
    assert refusal(parse_policy, policy_text("reference_values = []", tuples="")) == "policy_empty"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "policy_missing"),
        (b'schema = "appraisal-policy/2"\n' + TUPLE.encode(), "policy_value"),
        (b"schema = 1\n" + TUPLE.encode(), "policy_value"),
        (b"\xff", "policy_toml"),
        (b"a = ", "policy_toml"),
        (b"a = 1\na = 2", "policy_toml"),
        (b"a = " + b"[" * 100_000, "policy_toml"),
        (b"a = " + b"9" * 10_000, "policy_toml"),
        (b"#" * ((1 << 20) + 1), "size"),
    ],
)
def test_what_is_no_policy_is_refused(data: bytes, code: str) -> None:
    assert refusal(parse_policy, data) == code


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_other_exception_leaves_the_parser(data: bytes) -> None:
    for text in (data, policy_text() + data, policy_text(data.decode("utf-8", "replace"))):
        try:
            policy = parse_policy(text)
        except MalformedError:
            continue
        assert policy.reference_values


def test_masked_attributes_ignore_only_bits_outside_the_mask() -> None:
    rule = AttributeRule(value=0x10000000, mask=0x10000001)
    assert rule.accepts(0x10000000)
    assert rule.accepts(0x50000000)
    assert not rule.accepts(0x10000001)
    assert not rule.accepts(0)


def test_example_policies_are_policies() -> None:
    sample = parse_policy((EXAMPLES / "policy.toml").read_bytes())
    assert sample.required > FLOOR
    real = parse_policy((EXAMPLES / "policy-intel-quote.toml").read_bytes())
    assert "PLATFORM" in real.required


def test_floor_and_anchoring_name_known_checks() -> None:
    assert CHECKS.keys() > FLOOR
    assert FLOOR > ANCHORING
    assert all(spec.id == id_ and spec.title and "#" in spec.spec for id_, spec in CHECKS.items())
