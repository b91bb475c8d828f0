"""Building settings from their three layers: file, then environment, then flags."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from attestation.errors import UsageError
from gateway.settings.access import IssuerSettings, RuleSettings
from gateway.settings.engines import EngineSettings
from gateway.settings.key_sets import anchor_key_sets, read_key_sets
from gateway.settings.model import Settings
from gateway.settings.tree import declared, leaves

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ENV_PREFIX = "ATTESTED_"
# Variables of the program that are no settings.
_OTHER_VARIABLES = frozenset({"ATTESTED_DEBUG", "ATTESTED_VECTORS"})
_PLACE = re.compile(r"[0-9]{1,9}")
_POSITION = re.compile(r"\(at (line \d+, column \d+|end of document)\)$")
_LOCAL_PATHS = (
    ("access", "keys_file"),
    ("access", "budgets_file"),
    ("notary", "data_dir"),
    ("evidence", "collateral_file"),
    ("evidence", "endorsements"),
    ("evidence", "runtime_log"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one effective setting came from: "default", a file, a variable or a flag."""

    path: str
    value: Any
    measured: bool
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings and where each of them came from."""

    settings: Settings
    origins: tuple[Origin, ...]


def load_settings(file: Path | None, flags: Mapping[str, str] | None = None) -> Loaded:
    """Return the effective settings of a TOML file, ATTESTED_… variables and flags.

    A later layer wins over an earlier one, setting by setting.  `flags` maps dotted names to
    text; what is not text in TOML is written as in TOML (`8443`, `["a", "b"]`).  Paths in the
    file are relative to the file's folder.  Raises `UsageError` naming the setting and never
    its value.
    """
    _require_known_variables()
    layers = (
        (str(file) if file else "file", _from_file(file)),
        ("environment", _from_environment()),
        ("flag", _from_flags(flags or {})),
    )
    merged: dict[str, Any] = {}
    for _, layer in layers:
        _merge(merged, layer)
    read_key_sets(merged)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise _refusal(error, layers) from None
    origins = tuple(
        Origin(
            path=leaf.path,
            value=leaf.json_value,
            measured=leaf.measured,
            source=_source_of(leaf.path, layers),
        )
        for leaf in leaves(settings)
    )
    return Loaded(settings=settings, origins=origins)


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"the settings file {file} cannot be read",
            code="config",
            observed=error.strerror or "an I/O error",
            hint="name one with --config, see examples/gateway.toml",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # The parser's own text may quote the file; only its position is passed on.
        raise UsageError(
            f"the settings file {file} is not TOML",
            code="config",
            observed=_position(error),
            hint="mend it there; examples/gateway.toml is a whole one",
        ) from None
    _anchor_paths(values, file.resolve().parent)
    anchor_key_sets(values, file.resolve().parent)
    return values


def _position(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are not UTF-8, at byte {error.start}"
    found = _POSITION.search(str(error))
    return f"a syntax error at {found[1]}" if found else "a syntax error"


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    for section, name in _LOCAL_PATHS:
        table = values.get(section)
        if isinstance(table, dict) and isinstance(table.get(name), str):
            table[name] = str(folder / table[name])


def _from_environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise UsageError(
            "an environment variable cannot be read as a setting",
            code="config",
            observed=str(error),
            hint='lists are written as JSON: ATTESTED_TLS__NAMES=["localhost"]',
        ) from None


def _require_known_variables() -> None:
    known = {_ENV_PREFIX + path.replace(".", "__").upper() for path, _ in declared(Settings)}
    for name in os.environ:
        if name.upper().startswith(_ENV_PREFIX) and name.upper() not in known | _OTHER_VARIABLES:
            raise UsageError(
                f"the environment variable {name} names no setting",
                code="config",
                hint=_close(name.upper(), known),
            )


def _from_flags(flags: Mapping[str, str]) -> dict[str, Any]:
    known = {path for path, _ in declared(Settings)}
    values: dict[str, Any] = {}
    for path, text in flags.items():
        if path not in known:
            raise UsageError(
                f"--set {path[:64]} names no setting", code="config", hint=_close(path, known)
            )
        *sections, name = path.split(".")
        table = values
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = _flag_value(text)
    return values


def _flag_value(text: str) -> Any:  # noqa: ANN401 - any TOML value
    if not text.startswith(("[", '"')):
        return text  # pydantic reads numbers out of text; a host name stays as it is
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(base: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for name, value in layer.items():
        below = base.get(name)
        if isinstance(below, dict) and isinstance(value, Mapping):
            _merge(below, value)
        elif isinstance(value, Mapping):
            base[name] = {}
            _merge(base[name], value)
        else:
            base[name] = value


def _source_of(path: str, layers: tuple[tuple[str, dict[str, Any]], ...]) -> str:
    for source, layer in reversed(layers):
        value: Any = layer
        for part in path.split("."):
            value = _member(value, part)
        if value is not _ABSENT:
            return _named(source, path)
    return "default"


_ABSENT = object()


def _member(value: Any, part: str) -> Any:  # noqa: ANN401 - any TOML value
    if isinstance(value, list) and _PLACE.fullmatch(part) and int(part) < len(value):
        return value[int(part)]
    return value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT


def _named(source: str, path: str) -> str:
    if source == "environment":
        return _ENV_PREFIX + path.replace(".", "__").upper()
    return f"--set {path}" if source == "flag" else source


def _refusal(error: ValidationError, layers: tuple[tuple[str, dict[str, Any]], ...]) -> UsageError:
    known = {path for path, _ in declared(Settings)}
    known |= {path.partition(".")[0] for path in known}
    lines, hints = [], []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        path = ".".join(str(part)[:64] for part in problem["loc"])
        source = _source_of(path, layers)
        where = "" if source == "default" else f" (from {source})"
        lines.append(f"{path}{where}: {_words(problem)}" if path else _words(problem))
        if problem["type"] == "extra_forbidden":
            hints.append(_close(path, known))
    return UsageError(
        "the settings are refused: " + "; ".join(lines),
        code="config",
        hint="; ".join(filter(None, hints)) or "see docs/operating.md and examples/gateway.toml",
    )


def _words(problem: ErrorDetails) -> str:
    """Say in an operator's words what pydantic says in Python's."""
    kind = problem["type"]
    if kind == "missing":
        return "missing"
    if kind == "extra_forbidden":
        return "no such setting"
    if kind == "tuple_type":
        return "expected a list"
    text = problem["msg"].removeprefix("Value error, ")
    return text.replace("Input should be", "expected").replace("String should", "expected text to")


_LISTED: Final[dict[str, type[BaseModel]]] = {
    "access.issuers": IssuerSettings,
    "access.rules": RuleSettings,
    "upstreams": EngineSettings,
}
"""Settings that are lists of tables, and what a table of each may hold."""


def _close(name: str, known: set[str]) -> str:
    *above, last = (part for part in name.split(".") if not _PLACE.fullmatch(part))
    listed = _LISTED.get(".".join(above))
    if listed is not None:
        names = sorted(path for path, _ in declared(listed))
        near = get_close_matches(last, names, n=1)
        section = ".".join(above)
        return (
            f"did you mean {section}.{near[0]}?"
            if near
            else f"an entry of {section} takes {', '.join(names)}"
        )
    near = get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]}?" if near else "see docs/operating.md for all settings"
