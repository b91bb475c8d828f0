"""The cache salt: derived as documented, spliced in without another byte changed."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.encoding.strict_json import parse_json_object
from attestation.receipt.claims import ReceiptClaims
from attestation.receipt.delivery import body_of
from attestation.receipt.plan import ForwardPlan, require_consistent
from attestation.receipt.seal import claims_of
from attestation.receipt.splices import apply_splices
from gateway.access.principal import Grant, subject_of
from gateway.edge import routes
from gateway.edge.admission import MAX_CALLER_SALT, RefusedError, admit
from gateway.edge.limits import EdgeLimits
from gateway.edge.salt import SALTED, BodyRewriter, SaltMode, cache_salt
from gateway.notary.boot import BootSecrets
from tests.receipt.support import context, lineage, outcome

VECTORS = json.loads((Path(__file__).parent / "cache_salts.json").read_bytes())
KEY = bytes.fromhex(VECTORS["key"])
ALICE, BOB = subject_of(b"ag-alice"), subject_of(b"ag-bob")
JTI = "0123456789abcdef0123456789abcdef"
EVERY = (*SALTED,)


def planned(
    body: bytes,
    mode: SaltMode = "tenant",
    *,
    path: str = routes.CHAT,
    sub: Digest = ALICE,
    task: str = "task-1",
    jti: str = JTI,
    rewrite: BodyRewriter | None = None,
) -> ForwardPlan:
    rewrite = rewrite or BodyRewriter(mode, KEY)
    admission = admit(path, body, Grant(), EdgeLimits(), rewrite.salted)
    return rewrite(path, body, admission, sub, task=task, jti=jti)


def salt_of(plan: ForwardPlan) -> str:
    salt = parse_json_object(plan.body)["cache_salt"]
    assert isinstance(salt, str)
    return salt


# -- the derivation ------------------------------------------------------------------------


def by_hand(key: bytes, *parts: bytes) -> str:
    """The derivation as docs/spec/admission.md writes it, HMAC (RFC 2104) spelt out."""
    message = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    mac = hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).digest()
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")


@pytest.mark.parametrize(
    "row", VECTORS["salts"], ids=lambda row: f"{row['mode']}-{row['salt'][:6]}"
)
def test_salt_is_the_one_of_the_fixed_vectors(row: dict[str, str]) -> None:
    sub = Digest(bytes.fromhex(row["sub"]))
    made = cache_salt(KEY, row["mode"], sub, scope=row["scope"], caller=row["caller"])  # type: ignore[arg-type]
    assert made == row["salt"]
    label = b"attested-gateway/cache-salt/v1"
    texts = (row["scope"].encode(), row["caller"].encode())
    assert by_hand(KEY, label, row["mode"].encode(), sub.value, *texts) == made


def test_key_is_derived_from_the_boot_secret_under_its_own_label() -> None:
    drawn = replace(BootSecrets.draw(), commitment=bytes.fromhex(VECTORS["boot_secret"]))
    assert drawn.cache_salt_key == KEY
    assert drawn.cache_salt_key not in (drawn.commitment, BootSecrets.draw().cache_salt_key)


def test_salts_of_the_vectors_are_all_different_and_fit_engines() -> None:
    salts = [row["salt"] for row in VECTORS["salts"]]
    assert len(set(salts)) == len(salts)
    # vLLM takes 1 to 128 characters without @ / \ and NUL.
    assert all(len(salt) == 43 and not set("@/\\\0") & set(salt) for salt in salts)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("tenant", "task", "request")),
            st.sampled_from((ALICE, BOB)),
            st.text("ab", max_size=3),
            st.text("ab", max_size=3),
        ),
        min_size=2,
        max_size=6,
        unique=True,
    )
)
def test_no_two_askers_have_one_salt(askers: list[tuple[SaltMode, Digest, str, str]]) -> None:
    salts = [cache_salt(KEY, m, sub, scope=scope, caller=c) for m, sub, scope, c in askers]
    assert len(set(salts)) == len(salts)


# -- who shares one ------------------------------------------------------------------------


def test_tenant_has_one_salt_for_all_its_requests_and_no_other_has_it() -> None:
    rewrite = BodyRewriter("tenant", KEY)
    body = b'{"model":"m"}'
    ours = {salt_of(planned(body, rewrite=rewrite, task=t, jti=j)) for t, j in ("ab", "cd")}
    theirs = {salt_of(planned(body, rewrite=rewrite, sub=BOB))}
    assert len(ours) == len(theirs) == 1
    assert ours.isdisjoint(theirs)


def test_task_has_one_salt_and_other_tasks_and_tenants_have_others() -> None:
    salts = [
        salt_of(planned(b"{}", "task", sub=sub, task=task, jti=jti))
        for sub, task, jti in ((ALICE, "t", "a"), (ALICE, "u", "a"), (BOB, "t", "a"))
    ]
    assert len(set(salts)) == 3
    assert salt_of(planned(b"{}", "task", task="t", jti="b")) == salts[0]


def test_request_shares_its_salt_with_no_other() -> None:
    assert salt_of(planned(b"{}", "request", jti="a")) != salt_of(
        planned(b"{}", "request", jti="b")
    )


def test_callers_salt_divides_its_own_cache_and_reaches_no_other() -> None:
    bodies = [b"{}", b'{"cache_salt":"x"}', b'{"cache_salt":"y"}', b'{"cache_salt":null}']
    ours = [salt_of(planned(body)) for body in bodies]
    assert ours[3] == ours[0]
    theirs = [salt_of(planned(body, sub=BOB)) for body in bodies]
    assert len({*ours, *theirs}) == 6
    # Naming the salt that somebody else was given leads to a third one.
    stolen = planned(b'{"cache_salt":"%b"}' % ours[0].encode(), sub=BOB)
    assert salt_of(stolen) not in {*ours, *theirs}


def test_many_tenants_are_told_apart_and_not_all_remembered() -> None:
    rewrite = BodyRewriter("tenant", KEY)
    subs = [Digest.of(b"%d" % number) for number in range(5000)]
    salts = {planned(b"{}", rewrite=rewrite, sub=sub).inserted[0] for sub in subs}
    assert len(salts) == len(subs)
    assert planned(b"{}", rewrite=rewrite, sub=subs[0]).inserted[0] in salts
    assert len(rewrite._tenants) < len(subs)


# -- where there is one --------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(routes.PATHS))
def test_salt_is_set_on_the_routes_that_touch_a_cache_only(path: str) -> None:
    plan = planned(b'{"model":"m"}', path=path)
    assert bool(plan.splices) == (path in EVERY)
    assert ("cache_salt" in parse_json_object(plan.body)) == (path in EVERY)
    if path not in EVERY:
        assert plan == ForwardPlan(body=b'{"model":"m"}')


@pytest.mark.parametrize("path", sorted(routes.PATHS))
@pytest.mark.parametrize("mode", ["off", "tenant"])
def test_callers_salt_is_refused_where_the_gateway_sets_none(path: str, mode: SaltMode) -> None:
    body = b'{"model":"m","cache_salt":"x"}'
    if mode != "off" and path in EVERY:
        assert salt_of(planned(body, mode, path=path)) != "x"
        return
    with pytest.raises(RefusedError) as refused:
        planned(body, mode, path=path)
    assert refused.value.refusal.code == "refused_cache_salt"


@pytest.mark.parametrize("path", sorted(routes.PATHS))
def test_without_salts_every_body_is_forwarded_as_it_came(path: str) -> None:
    body = b' {"model":"m","cache_salt":null}'
    assert planned(body, "off", path=path) == ForwardPlan(body=body)


@pytest.mark.parametrize(
    "salt", ['""', "0", "false", "{}", "[]", '["x"]', "1.5", f'"{"x" * (MAX_CALLER_SALT + 1)}"']
)
def test_callers_salt_that_is_no_text_of_sane_length_is_refused(salt: str) -> None:
    with pytest.raises(RefusedError) as refused:
        planned(b'{"cache_salt":%b}' % salt.encode())
    assert refused.value.refusal.code == "refused_cache_salt"
    assert "xxx" not in refused.value.refusal.message


def test_callers_salt_of_the_longest_length_is_taken() -> None:
    assert len(salt_of(planned(b'{"cache_salt":"%b"}' % (b"\\u0041" * MAX_CALLER_SALT)))) == 43


# -- the splice ----------------------------------------------------------------------------

SALT = VECTORS["salts"][0]["salt"].encode()
ODD = (
    b'{"a":{"cache_salt":"x"},"\xc3\xa9":"\xf0\x9f\xa7\x82,\\"cache_salt\\":\\"y\\"","cache_salt":'
)


@pytest.mark.parametrize(
    ("body", "forwarded"),
    [
        (b"{}", b'{"cache_salt":"%b"}'),
        (b" {\n} ", b' {"cache_salt":"%b"\n} '),
        (b'{"model":"m"}', b'{"cache_salt":"%b","model":"m"}'),
        (b'\r\n{ "model" : "m" }\t', b'\r\n{"cache_salt":"%b", "model" : "m" }\t'),
        (b'{"cache_salt":null}', b'{"cache_salt":"%b"}'),
        (b'{"cache\\u005fsalt" : null, "n":1}', b'{"cache\\u005fsalt" : "%b", "n":1}'),
        (b'{"a":{"cache_salt":1}}', b'{"cache_salt":"%b","a":{"cache_salt":1}}'),
        (
            b'{"cache_salt ":"a","CACHE_SALT":1,"cache_salt":null}',
            b'{"cache_salt ":"a","CACHE_SALT":1,"cache_salt":"%b"}',
        ),
        (ODD + b"null}", ODD + b'"%b"}'),
    ],
)
def test_salt_is_spliced_in_exactly_here(body: bytes, forwarded: bytes) -> None:
    plan = planned(body)
    assert plan.body == forwarded.replace(b"%b", SALT)
    assert [splice.code for splice in plan.splices] == ["cache_salt"]


SURROGATES: Final[tuple[Literal["Cs"]]] = ("Cs",)
SPACE = st.text(" \t\r\n", max_size=2)
NAMES = st.one_of(
    st.sampled_from(("cache_salt", "cache", "a", "caché", 'cache_salt"', "\\", "🧂")),
    st.text(st.characters(exclude_categories=SURROGATES), max_size=4),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=SURROGATES), max_size=6),
    st.sampled_from(('","cache_salt":"', '{"cache_salt":1}', "}", '"', "\\u005f")),
)


@st.composite
def spelt(draw: st.DrawFn, text: str) -> str:
    """`text` as a JSON string, some characters as escapes."""
    pieces = []
    for character in text:
        plain = json.dumps(character, ensure_ascii=draw(st.booleans()))[1:-1]
        if draw(st.booleans()):
            units = character.encode("utf-16-be")
            plain = "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
        pieces.append(plain)
    return '"' + "".join(pieces) + '"'


@st.composite
def written(draw: st.DrawFn, depth: int = 2) -> str:
    """Some JSON value with white space wherever it may stand."""
    kind = draw(st.sampled_from("oas" if depth else "s"))
    pad = [draw(SPACE) for _ in range(4)]
    if kind == "s":
        value = draw(SCALARS)
        text = draw(spelt(value)) if isinstance(value, str) else json.dumps(value)
        return pad[0] + text + pad[1]
    if kind == "a":
        items = [draw(written(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
        return f"{pad[0]}[{','.join(items) or pad[1]}]{pad[2]}"
    return pad[0] + draw(an_object(draw(written_members(depth - 1)))) + pad[1]


@st.composite
def written_members(draw: st.DrawFn, depth: int) -> list[tuple[str, str]]:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    return [(name, draw(written(depth))) for name in names]


@st.composite
def an_object(draw: st.DrawFn, members: list[tuple[str, str]]) -> str:
    listed = [f"{draw(SPACE)}{draw(spelt(name))}{draw(SPACE)}:{value}" for name, value in members]
    return "{" + (",".join(listed) or draw(SPACE)) + "}"


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A request that is admitted: any members, and maybe a cache salt anywhere among them."""
    members = [
        (f"x_{name}", value) if name in HANDLED else (name, value)
        for name, value in draw(written_members(2))
        if name != "cache_salt"
    ]
    if draw(st.booleans()):
        salt = draw(
            st.one_of(
                st.none(),
                st.text(st.characters(exclude_categories=SURROGATES), min_size=1, max_size=9),
            )
        )
        text = "null" if salt is None else draw(spelt(salt))
        at = draw(st.integers(0, len(members)))
        members.insert(at, ("cache_salt", draw(SPACE) + text + draw(SPACE)))
    return (draw(SPACE) + draw(an_object(members)) + draw(SPACE)).encode()


HANDLED = frozenset({"n", "model", "tools", "echo", "store"})


@given(bodies(), st.sampled_from(("tenant", "task", "request")))
def test_forwarded_body_is_the_document_with_just_its_salt_set(body: bytes, mode: SaltMode) -> None:
    before: dict[str, Any] = parse_json_object(body)
    plan = planned(body, mode)
    after = parse_json_object(plan.body)
    salt = after.pop("cache_salt")
    caller = before.pop("cache_salt", None) or ""
    scope = {"task": "task-1", "request": JTI}.get(mode, "")
    assert salt == cache_salt(KEY, mode, ALICE, scope=scope, caller=caller)
    # Order and types count too: true is not 1.
    assert json.dumps(list(after.items())) == json.dumps(list(before.items()))
    # What leaves is what the receipt will say, and what any verifier makes of it.
    require_consistent(plan, (body,))
    assert apply_splices(body, plan.splices, plan.inserted) == plan.body
    (splice,) = plan.splices
    kept = len(body) - splice.deleted
    assert len(plan.body) == kept + splice.inserted
    assert plan.body.startswith(body[: splice.offset])
    assert plan.body.endswith(body[splice.offset + splice.deleted :])


@given(
    st.lists(
        st.sampled_from(("cache_salt", "cache\\u005fsalt", "\\u0063ache_salt")),
        min_size=2,
        max_size=3,
    )
)
def test_two_salts_in_one_body_are_refused_however_they_are_spelt(names: list[str]) -> None:
    body = "{" + ",".join(f'"{name}":"x"' for name in names) + "}"
    with pytest.raises(RefusedError) as refused:
        planned(body.encode())
    assert refused.value.refusal.code == "json_duplicate_member"


def test_every_pair_of_modes_gives_other_salts() -> None:
    salts = [salt_of(planned(b"{}", mode)) for mode in ("tenant", "task", "request")]
    assert all(one != other for one, other in combinations(salts, 2))


# -- what was inserted, once more ----------------------------------------------------------


@pytest.mark.parametrize("mode", ["tenant", "task", "request"])
@pytest.mark.parametrize("body", [b"{}", b'{"a":1}'])
def test_insertion_follows_from_the_receipt_without_the_body(mode: SaltMode, body: bytes) -> None:
    plan = planned(body, mode)
    assert BodyRewriter(mode, KEY).again(claims(plan)) == plan.inserted


@pytest.mark.parametrize("body", [b'{"cache_salt":null}', b'{"cache_salt":"mine"}'])
def test_insertion_in_the_place_of_another_salt_is_not_guessed(body: bytes) -> None:
    assert BodyRewriter("tenant", KEY).again(claims(planned(body))) == ()


def test_nothing_is_said_of_a_request_that_got_no_salt() -> None:
    assert BodyRewriter("tenant", KEY).again(claims(planned(b"{}", "off"))) == ()
    assert BodyRewriter("off", KEY).again(claims(planned(b"{}"))) == ()


def claims(plan: ForwardPlan) -> ReceiptClaims:
    told = outcome(
        sub=ALICE,
        jti=JTI,
        lineage=replace(lineage(), txn="task-1"),
        forwarded=body_of(plan.body) if plan.splices else None,
        splices=plan.splices,
        inserted=plan.inserted,
    )
    return claims_of(told, context())[0]
