"""Admission, rule by rule, and on arbitrary input."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.receipt import text
from gateway.access.principal import Grant
from gateway.edge import rules
from gateway.edge.admission import RefusedError, admit
from gateway.edge.limits import EdgeLimits
from gateway.edge.routes import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, PATHS, RESPONSES

LIMITS = EdgeLimits()
ALL = Grant()
SECRET = "canary-c0de"
DOCUMENT = (Path(__file__).parents[2] / "docs/spec/admission.md").read_text(encoding="utf-8")


def verdict(body: bytes | dict[str, Any], path: str = CHAT, grant: Grant = ALL) -> str:
    """ "ok", or the code of the refusal, after a look at what the refusal says."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        admit(path, data, grant, LIMITS)
    except RefusedError as error:
        refusal, shown = error.refusal, str(error)
    else:
        return "ok"
    assert 400 <= refusal.status < 500
    assert text.CODE.fullmatch(refusal.code)
    assert refusal.message
    assert SECRET not in refusal.message + refusal.code + (refusal.param or "") + shown
    return refusal.code


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.field)
@pytest.mark.parametrize("value", [1, 0, True, "", SECRET, "false", [], {}, [SECRET], 0.0])
def test_dangerous_member_is_refused_with_any_harmful_value(rule: rules.Rule, value: Any) -> None:
    path = rule.only[0] if rule.only else CHAT
    assert verdict({"model": "m", rule.field: value}, path) == rule.code


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.field)
def test_harmless_values_pass_on_every_route(rule: rules.Rule) -> None:
    for path in PATHS:
        assert verdict({"model": "m"}, path) == "ok"
        for value in rule.harmless:
            assert verdict({"model": "m", rule.field: value}, path) == "ok"


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.field)
def test_rule_holds_on_its_routes_and_no_other(rule: rules.Rule) -> None:
    for path in PATHS:
        expected = rule.code if rule.applies_to(path) else "ok"
        assert verdict({"model": "m", rule.field: SECRET}, path) == expected


def test_every_rule_applies_to_every_route_unless_it_names_some() -> None:
    assert {rule.field for rule in rules.RULES if rule.only} == {
        "store", "background", "previous_response_id",
    }  # fmt: skip


@pytest.mark.parametrize("field", ["guided_json", "guided_regex", "guided_anything", "guided_"])
def test_old_names_of_structured_outputs_are_refused_by_prefix(field: str) -> None:
    assert verdict({"model": "m", field: SECRET}) == "refused_guided"
    assert verdict({"model": "m", field: None}) == "ok"


@pytest.mark.parametrize("name", rules.STRUCTURED_OUTPUTS)
def test_patterns_and_grammars_are_refused_inside_structured_outputs(name: str) -> None:
    assert verdict({"structured_outputs": {name: SECRET}}) == "refused_structured_outputs"
    assert verdict({"structured_outputs": {"json": {"type": "object"}, name: None}}) == "ok"


@pytest.mark.parametrize("name", rules.TEMPLATE_ARGUMENTS)
def test_template_cannot_be_replaced_through_its_arguments(name: str) -> None:
    assert verdict({"chat_template_kwargs": {name: SECRET}}) == "refused_chat_template_kwargs"
    assert verdict({"chat_template_kwargs": {"enable_thinking": False}}) == "ok"


@pytest.mark.parametrize("name", rules.CHOICES)
@pytest.mark.parametrize("value", [0, -1, 17, 10**6, 1.0, 1e5, "2", True, False, [], {}])
def test_choices_must_be_an_integer_within_the_maximum(name: str, value: Any) -> None:
    assert verdict({name: value}) == f"refused_{name}"


@pytest.mark.parametrize("value", [1, 2, 16, None])
def test_choices_within_the_maximum_pass(value: int | None) -> None:
    assert verdict({"n": value, "best_of": value}) == "ok"


@pytest.mark.parametrize(
    "kind",
    ["mcp", "code_interpreter", "web_search", "web_search_preview", "web_search_20250305",
     "container", "file_search", "image_generation", "code_execution_20250522", "mcp_toolset"],
)  # fmt: skip
@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_tools_the_engine_would_run_are_refused(kind: str, path: str) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}, {"type": kind, "server": SECRET}]
    assert verdict({"tools": tools}, path) == "refused_tool"


@pytest.mark.parametrize(
    "tools",
    [None, [], {}, "x", [None], [1], [{"type": "function"}], [{"type": 7}], [{"name": "mcp"}]],
)
def test_other_tools_are_the_engines_to_judge(tools: Any) -> None:
    assert verdict({"tools": tools}) == "ok"


REMOTE = [
    {"type": "image_url", "image_url": {"url": f"http://{SECRET}/x.png"}},
    {"type": "image_url", "image_url": f"https://{SECRET}/x.png"},
    {"image_url": f"file:///etc/{SECRET}"},
    {"type": "text", "text": "x", "video_url": {"url": f"ftp://{SECRET}"}},
    {"type": "audio_url", "audio_url": {"url": f"//{SECRET}"}},
    {"type": "input_image", "image_url": f"DATA:{SECRET}"},
    {"type": "input_image", "image_url": f" data:{SECRET}"},
    {"type": "input_image", "image_url": f"\\\\{SECRET}\\x"},
    {"type": "input_file", "file_url": f"http://{SECRET}"},
    {"type": "image", "source": {"type": "url", "url": f"http://{SECRET}"}},
    {"type": "document", "source": {"type": "base64", "url": f"http://{SECRET}"}},
    {"type": "image_url", "image_url": ["x"]},
    {"type": "image_url", "image_url": {"url": {"url": "x"}}},
    {"type": "image_url", "image_url": 7},
    {"type": "tool_use", "image_url": f"http://{SECRET}"},
    {"type": "tool_use", "input": "x", "content": [{"image_url": f"http://{SECRET}"}]},
]


@pytest.mark.parametrize("part", REMOTE)
def test_media_that_would_be_fetched_is_refused_wherever_it_stands(part: dict[str, Any]) -> None:
    places: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"messages": [{"role": "user", "content": [part]}]}),
        (CHAT, {"messages": [{"role": "user", "content": part}]}),
        (MESSAGES, {"messages": [{"content": [{"type": "tool_result", "content": [part]}]}]}),
        (MESSAGES, {"messages": [], "system": [part]}),
        (RESPONSES, {"input": [{"type": "message", "content": [part]}]}),
        (RESPONSES, {"input": [{"type": "computer_call_output", "output": part}]}),
        (RESPONSES, {"input": [], "prompt": {"id": "p", "variables": {"v": part}}}),
        (EMBEDDINGS, {"messages": [{"content": [part]}]}),
        (COMPLETIONS, {"prompt": [[part]]}),
    ]
    for path, body in places:
        assert verdict({"model": "m", **body}, path) == "refused_remote_media"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_image", "image_url": None},
        {"type": "image_url", "image_url": {"url": None}},
        {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
        {"type": "search_result", "source": "https://example.org/"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "text", "text": "see https://example.org/x.png"},
        {"type": "tool_use", "input": {"image_url": "https://example.org/", "uuid": "u"}},
        {"type": "output_text", "annotations": [{"type": "url_citation", "url": "https://e.org"}]},
    ],
)
def test_inline_media_and_mere_text_pass(part: dict[str, Any]) -> None:
    assert verdict({"messages": [{"role": "user", "content": [part]}]}) == "ok"


def test_urls_outside_the_content_are_data_like_any_other() -> None:
    assert verdict({"metadata": {"image_url": "https://example.org/"}, "x_url": "http://e"}) == "ok"


@pytest.mark.parametrize("name", rules.FORBIDDEN_PART_MEMBERS)
def test_tensors_and_references_to_stored_media_are_refused(name: str) -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "image_url", name: SECRET}]}]}
    assert verdict(body) == f"refused_part_{name}"
    body = {"messages": [{"role": "user", "content": [{"type": "text", name: None}]}]}
    assert verdict(body) == "ok"


def test_media_is_found_below_a_hundred_levels() -> None:
    part: object = {"image_url": f"http://{SECRET}"}
    for _ in range(100):
        part = [part]
    assert verdict({"messages": part}) == "refused_remote_media"


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("a b", "model_name"), ("é", "model_name"), ("", "model_name"), ("x" * 129, "model_name"),
        ("m\n", "model_name"), (7, "model_name"), (["m"], "model_name"), (True, "model_name"),
        ("org/name@rev+a:b.c_d-e", "ok"), ("x" * 128, "ok"), (None, "ok"),
    ],
)  # fmt: skip
def test_model_must_be_recordable(model: Any, code: str) -> None:
    assert verdict({"model": model}) == code


def test_grant_is_for_exact_models() -> None:
    grant = Grant(models=("m",))
    assert verdict({"model": "m"}, grant=grant) == "ok"
    assert verdict({"model": "M"}, grant=grant) == "model_not_found"
    assert verdict({"Model": "m"}, grant=grant) == "model_missing"
    assert verdict({}, grant=grant) == "model_missing"


def test_refusal_remembers_the_model_it_was_about() -> None:
    with pytest.raises(RefusedError) as caught:
        admit(CHAT, b'{"model":"m","n":99}', ALL, LIMITS)
    assert caught.value.model == "m"


def test_limits_are_the_configured_ones() -> None:
    limits = EdgeLimits(body_bytes=20, json_depth=2, json_members=2, max_n=1)
    for body, code in (
        (b'{"a":"%s"}' % (b"x" * 20), "json_size"),
        (b'{"a":[[1]]}', "json_depth"),
        (b'{"a":1,"b":2,"c":3}', "json_members"),
        (b'{"n":2}', "refused_n"),
    ):
        with pytest.raises(RefusedError) as caught:
            admit(CHAT, body, ALL, limits)
        assert caught.value.refusal.code == code


# -- the document ----------------------------------------------------------------------------


def test_document_lists_exactly_the_refused_members() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+?) \| `([^`]+)` \|", DOCUMENT, re.MULTILINE)
    listed = {(member, code) for member, _, _, code in rows}
    expected = {(rule.field, rule.code) for rule in rules.RULES}
    expected |= {("guided_*", "refused_guided")}
    for group, names in (
        ("structured_outputs", rules.STRUCTURED_OUTPUTS),
        ("chat_template_kwargs", rules.TEMPLATE_ARGUMENTS),
    ):
        expected |= {(f"{group}.{name}", f"refused_{group}") for name in names}
    expected |= {(name, f"refused_{name}") for name in rules.CHOICES}
    assert listed == expected
    harmless = {member: values for member, values, _, _ in rows}
    routes = {member: where for member, _, where, _ in rows}
    for rule in rules.RULES:
        assert ("`false`" in harmless[rule.field]) == (False in rule.harmless)
        assert routes[rule.field] == (", ".join(f"`{path}`" for path in rule.only) or "all")


def test_document_names_every_tool_and_part_that_is_refused() -> None:
    for name in (*rules.TOOL_PREFIXES, *rules.FORBIDDEN_PART_MEMBERS, *rules.CONTENT_MEMBERS):
        assert f"`{name}`" in DOCUMENT


# -- arbitrary input -------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
MEMBERS = st.sampled_from(
    [rule.field for rule in rules.RULES]
    + [*rules.CONTENT_MEMBERS, *rules.CHOICES, "model", "tools", "structured_outputs", "type"]
    + ["chat_template_kwargs", "image_url", "url", "source", "guided_x", "x"]
)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["data:x", "http://x", "tool_use", "mcp"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(MEMBERS, VALUES, max_size=3)


@given(st.binary(), st.sampled_from(sorted(PATHS)))
def test_arbitrary_bytes_are_admitted_or_refused_and_nothing_else(body: bytes, path: str) -> None:
    verdict(body, path)


@given(BODIES, st.sampled_from(sorted(PATHS)))
def test_arbitrary_objects_are_admitted_or_refused_and_nothing_else(
    body: dict[str, Any], path: str
) -> None:
    verdict(body, path)


@given(BODIES)
def test_nothing_admitted_has_a_url_that_is_not_inline(body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    if verdict(data) != "ok":
        return
    pending: list[Any] = [body.get(name) for name in rules.CONTENT_MEMBERS]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            url = item.get("image_url")
            assert not isinstance(url, str) or url.startswith("data:")
            skip = "input" if item.get("type") == "tool_use" else None
            pending.extend(value for name, value in item.items() if name != skip)
        elif isinstance(item, list):
            pending.extend(item)


# -- vectors ---------------------------------------------------------------------------------


def test_hostile_bodies_of_the_vectors_get_their_verdicts(vectors: Callable[[str], Path]) -> None:
    lines = (vectors("requests") / "chat_hazards.ndjson").read_text(encoding="utf-8").splitlines()
    wrong = {}
    for case in map(json.loads, lines):
        packed = case.get("zlib_b64")
        data = zlib.decompress(base64.b64decode(packed)) if packed else base64.b64decode(
            case["bytes_b64"]
        )  # fmt: skip
        accepted = verdict(data) == "ok"
        # "policy": this gateway refuses them, as docs/spec/admission.md says.
        if accepted != (case["expect"] == "accept"):
            wrong[case["name"]] = accepted
    assert len(lines) >= 41
    assert wrong == {}
