"""An engine: does it answer, which one is it, and what of it is open that must not be.

Nothing is asked that could change the engine: every route is asked with GET, and a route that
takes POST only says so (405), while one that is not there says 404.  Routes and settings are
those of vLLM 0.32 (docs/usage/security.md; vllm/entrypoints/serve; vllm/envs.py).
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attestation.encoding.strict_json import parse_json
from attestation.errors import MalformedError
from gateway.cli.checkup.finding import Finding, Level, Subject
from gateway.errors import UpstreamError
from gateway.settings.places import is_loopback
from gateway.upstream import EngineAddress, Upstream, UpstreamLimits, parse_engine_url
from gateway.upstream.surface import (
    ADAPTERS,
    BESIDE,
    DEVELOPMENT,
    DOCUMENTATION,
    FORBIDDEN_FLAGS,
    FORBIDDEN_VARIABLES,
    is_set,
    routes_there,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.settings.engines import EngineSettings

__all__ = ["ADAPTERS", "BESIDE", "DEVELOPMENT", "DOCUMENTATION", "engine_findings", "upstream_host"]

AREA: Final = "service"
REQUEST_ID: Final = "doctor"
_OK_STATUS: Final = 200

_OFF: Final = frozenset({"", "0", "false"})
_CREDENTIALS: Final = struct.Struct("iII")
_PROC: Final = Path("/proc")


async def engine_findings(
    settings: EngineSettings, *, alone: bool, proc: Path = _PROC
) -> Sequence[Finding]:
    """Look at one engine: models, version, routes, settings; only the first if it is not there."""
    upstream = _upstream_of(settings)
    names = _Names(settings.name, alone=alone)
    try:
        models = await _models(names, settings, upstream)
        if models.level is Level.FAIL:
            return (models,)
        return (
            models,
            await _version(names, settings, upstream),
            await _changing_routes(names, upstream),
            await _open_routes(names, settings, upstream),
            _flags(names, settings, proc),
        )
    finally:
        upstream.close()


class _Names:
    """Subjects of one engine; where there are several, each has its name."""

    def __init__(self, engine: str, *, alone: bool) -> None:
        self._id, self._title = ("", "") if alone else (f".{engine}", f" {engine}")

    def subject(self, part: str = "") -> Subject:
        return Subject(
            id=f"service.engine{self._id}{f'.{part}' if part else ''}",
            area=AREA,
            title=f"engine{self._title}{f' {part}' if part else ''}",
        )


def _upstream_of(settings: EngineSettings) -> Upstream:
    limits = UpstreamLimits(
        connect_timeout=settings.connect_timeout,
        first_byte_timeout=5.0,
        idle_timeout=5.0,
        total_timeout=10.0,
    )
    address = (
        parse_engine_url(settings.url) if settings.url else EngineAddress(path=str(settings.uds))
    )
    return Upstream(address, limits)


async def _models(names: _Names, settings: EngineSettings, upstream: Upstream) -> Finding:
    subject, where = names.subject(), settings.address
    try:
        answer = await upstream.get("/v1/models", request_id=REQUEST_ID)
    except UpstreamError as error:
        return subject.fail(
            f"{where} does not answer ({error})", "start the engine, or correct its url or uds"
        )
    models = _model_ids(answer.body) if answer.status == _OK_STATUS else None
    if models is None:
        return subject.warn(
            f"{where} answers GET /v1/models with HTTP {answer.status} and no list of models",
            "is it an engine that speaks OpenAI's API? is it still loading?",
        )
    missing = [model for model in settings.models if model not in models]
    if missing:
        return subject.warn(
            f"{where} does not serve {', '.join(missing[:3])}",
            "correct upstreams.models, or start the engine with --served-model-name",
            models=models,
        )
    return subject.ok(f"{where} serves {', '.join(models[:3]) or 'no model yet'}", models=models)


async def _version(names: _Names, settings: EngineSettings, upstream: Upstream) -> Finding:
    subject = names.subject("version")
    said = await _said_version(upstream)
    if said is None:
        return subject.absent("it does not say (GET /version)")
    wanted = (settings.engine or "").rpartition("/")[2]
    if wanted and wanted != said:
        return subject.warn(
            f"it says {said}, receipts will say {settings.engine}",
            "correct the engine's name in the settings: receipts repeat it unlooked-at",
            version=said,
        )
    return subject.ok(said, version=said)


async def _said_version(upstream: Upstream) -> str | None:
    try:
        answer = await upstream.get("/version", request_id=REQUEST_ID)
        document = parse_json(answer.body) if answer.status == _OK_STATUS else None
    except (UpstreamError, MalformedError):
        return None
    said = document.get("version") if isinstance(document, dict) else None
    return ascii(said[:64])[1:-1] if isinstance(said, str) else None


async def _changing_routes(names: _Names, upstream: Upstream) -> Finding:
    """Routes that change what was measured, or act on everybody's requests."""
    subject = names.subject("routes")
    development = await routes_there(upstream, DEVELOPMENT)
    adapters = await routes_there(upstream, ADAPTERS)
    if development:
        return subject.fail(
            f"development mode: {_listed(development)}",
            "unset VLLM_SERVER_DEV_MODE: whoever reaches the engine can change its model",
            open=[*development, *adapters],
        )
    if adapters:
        return subject.fail(
            f"adapters can be loaded: {_listed(adapters)}",
            "start the engine without --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING",
            open=list(adapters),
        )
    return subject.ok("those that change the model or act on others' requests are 404", open=[])


async def _open_routes(names: _Names, settings: EngineSettings, upstream: Upstream) -> Finding:
    """Routes past the gateway: harmless where nobody else reaches the engine."""
    subject = names.subject("surface")
    beside = await routes_there(upstream, BESIDE)
    documentation = await routes_there(upstream, DOCUMENTATION)
    found = [*beside, *documentation]
    host = upstream_host(settings)
    if host is not None and not is_loopback(host):
        return subject.warn(
            f"others may reach it at {host}"
            + (f", where {_listed(found)} take no receipt" if found else ""),
            "prompts leave this trust domain: use a Unix socket (--uds), or know who listens there",
            open=found,
        )
    if documentation:
        return subject.warn(
            f"{_listed(documentation)} are served",
            "start the engine with --disable-fastapi-docs",
            open=found,
        )
    reach = "its socket" if host is None else "this machine"
    also = f"; past the gateway there are {_listed(beside)}" if beside else ""
    return subject.ok(f"reachable from {reach} only{also}", open=found)


def upstream_host(settings: EngineSettings) -> str | None:
    """Return the host that the engine's address names, None for a Unix socket."""
    return None if settings.url is None else parse_engine_url(settings.url).host


def _flags(names: _Names, settings: EngineSettings, proc: Path) -> Finding:
    """How it was started, where its process can be seen: the one at the other end of a socket."""
    subject = names.subject("flags")
    started = None if settings.uds is None else _started_with(settings.uds, proc)
    if started is None:
        return subject.absent(
            "cannot be told: its process is not to be seen from here",
            "compare how it is started with docs/operating.md",
        )
    words, variables = started
    bad = {flag: why for flag, why in FORBIDDEN_FLAGS.items() if is_set(flag, words)}
    bad |= {
        name: why
        for name, why in FORBIDDEN_VARIABLES.items()
        if variables.get(name, "").lower() not in _OFF
    }
    if bad:
        return subject.warn(
            "; ".join(f"{name}: {why}" for name, why in bad.items()),
            "start the engine without them",
            flags=sorted(bad),
        )
    return subject.ok("none that writes content down or opens the model to changes", flags=[])


def _started_with(path: Path, proc: Path) -> tuple[list[str], dict[str, str]] | None:
    """Return arguments and environment of the process that listens there (proc(5)).

    Only flags of a closed list are ever shown: an API key may stand among them.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            probe.connect(str(path))
            raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, _, _ = _CREDENTIALS.unpack(raw)
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
        pairs = (proc / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    variables = {
        name: value
        for name, _, value in (pair.decode("utf-8", "replace").partition("=") for pair in pairs)
    }
    return [word.decode("utf-8", "replace") for word in words], variables


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more


def _model_ids(body: bytes) -> list[str] | None:
    try:
        document = parse_json(body)
    except MalformedError:
        return None
    items = document.get("data") if isinstance(document, dict) else None
    if not isinstance(items, list):
        return None
    ids = [item.get("id") for item in items if isinstance(item, dict)]
    return [ascii(each[:64])[1:-1] for each in ids if isinstance(each, str)]
