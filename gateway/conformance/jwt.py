"""Topic `jwt`: bearer tokens, judged by the verifier that lets agents with identities in.

A file is an object: `jwks` the issuer's keys, `now` the clock, `expected` the profile (`iss`,
`aud`, `algs`, `required`) and `cases` with `name`, `token` and `expect`: accept, reject or
either.  There is no leeway and no bound on a lifetime; `typ` is absent or "JWT", the types that
the files' profile knows; keys of other algorithms than `algs` are not there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attestation.conformance.case import Case, accept_or_reject, equal_or_either
from attestation.conformance.files import (
    require_list,
    require_object,
    require_text,
    unknown_shape,
)
from attestation.errors import MalformedError
from gateway.access.bearer import (
    TokenProfile,
    parse_bearer_token,
    parse_issuer_keys,
    verify_bearer_token,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory
    from gateway.access.bearer import Keys

EXPECTED = ("accept", "reject", "either")
_TYPES: frozenset[str | None] = frozenset((None, "JWT"))


def cases(directory: VectorDirectory, _resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every token of every listed file."""
    for file in directory.listed_files():
        if not file.endswith(".json"):
            raise unknown_shape(file)
        content = require_object(directory.read_json(file), file)
        if not {"jwks", "now", "expected", "cases"} <= content.keys():
            raise unknown_shape(file)
        yield from _cases(content, file)


def _cases(content: dict[str, Any], file: str) -> Iterator[Case]:
    profile, algorithms = _profile(content["expected"], file)
    now = content["now"]
    if type(now) is not int:
        raise _bad(file, 'an integer "now"')
    keys = _keys(content["jwks"], algorithms, file)
    for members in require_list(content["cases"], f"cases of {file}"):
        name = require_text(members, "name", f"a case of {file}")
        expected = require_text(members, "expect", name)
        if expected not in EXPECTED:
            raise _bad(name, '"expect" to be one of ' + ", ".join(EXPECTED))
        token = require_text(members, "token", name)
        action = partial(_verify, token, keys, profile, now)
        run = partial(accept_or_reject, action)
        yield Case(name=name, expected=expected, run=run, agrees=equal_or_either)


def _keys(value: Any, algorithms: set[str], file: str) -> Keys:  # noqa: ANN401 - any JSON
    listed = require_list(require_object(value, f"jwks of {file}").get("keys"), f"jwks of {file}")
    wanted = [jwk for jwk in listed if jwk.get("alg") in algorithms]
    return parse_issuer_keys({"keys": wanted}) if wanted else {}


def _verify(token: str, keys: Keys, profile: TokenProfile, now: int) -> None:
    # A header reaches the product as bytes; what has no place in one is refused there too.
    data = token.encode("utf-8", "surrogatepass")
    verify_bearer_token(parse_bearer_token(data), keys, profile, now)


def _profile(value: Any, file: str) -> tuple[TokenProfile, set[str]]:  # noqa: ANN401 - any JSON
    members = require_object(value, f"expected of {file}")
    profile = TokenProfile(
        issuer=require_text(members, "iss", file),
        audience=require_text(members, "aud", file),
        types=_TYPES,
        required=frozenset(_texts(members, "required", file)),
    )
    return profile, set(_texts(members, "algs", file))


def _texts(members: dict[str, Any], name: str, file: str) -> list[str]:
    value = members.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _bad(file, f'"{name}" to be a list of strings')
    return value


def _bad(what: str, expected: str) -> MalformedError:
    return MalformedError(f"{what} is not usable", code="case", expected=expected)
