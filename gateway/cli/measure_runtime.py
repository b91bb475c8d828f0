"""`attested measure-runtime`: what an image measures into RTMR3 before its gateway has keys."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attestation.cli.files import load_bytes, print_json, print_text, save_bytes
from attestation.encoding.printable import printable
from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.statement.model_lock import (
    ENGINE_ARGS_EVENT,
    MAX_LOCK_BYTES,
    MODEL_LOCK_EVENT,
    parse_model_lock,
)
from attestation.tdx.launch import GPU_EVIDENCE, GPU_POLICY
from attestation.tdx.runtime import MeasuredEvent
from gateway.attester.base import open_provider
from gateway.cli.config import add_settings_arguments, load_from_arguments
from gateway.notary.launch import (
    Launched,
    config_of,
    engine_of,
    measure,
    measured_file,
    model_root_of,
    package_of,
    parse_pack_roots,
    ready_of,
)
from gateway.notary.runtime_log import RuntimeLog
from gateway.settings.engines import SelfCheckSettings
from gateway.upstream.configured import check_own_engines
from gateway.upstream.engine_start import ENVIRONMENT, command_of, require_hardened
from gateway.upstream.surface import FORBIDDEN_ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attestation.tdx.runtime import KeyEvent
    from gateway.settings import Settings

HELP = "measure into RTMR3 what an image starts, before there are keys"

_EPILOG = """\
Three steps, run by the units of the image in this order: `boot` (settings, installed gateway,
engine, model, GPU policy), `gpu` (the evidence of GPUs that were accepted), `ready` (the engine
answers, and its forbidden routes are not there). `show` lists what was measured. Where RTMR3 cannot
be extended, the events are noted all the same: the boot statement lists them, and policies decide.

Of each event NAME=SHA256 is shown, as `attested measure tdx --event` takes it, and below it the
SHA-384 by which RTMR3 is extended. `ready` waits for the engine, selfcheck.patience_seconds or,
where that is 0, 1800 s, and says so on stderr.

examples:
  attested measure-runtime boot --config gateway.toml --package /usr/lib/attested
  attested measure-runtime boot --config gateway.toml --package /usr/lib/attested --dry-run --json
  attested measure-runtime gpu --config gateway.toml --evidence gpu.json
  attested measure-runtime ready --config gateway.toml
  attested measure-runtime show --config gateway.toml

exit codes: 0 done; 2 usage; 11 the engine's arguments; 13 a file that is malformed; 14 RTMR3, the
log, a file that cannot be read, an engine that is open or does not answer
"""
_STEPS = ("boot", "gpu", "ready", "show")
_MAX_FILE = 16 << 20
_READY_SECONDS = 1800.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("step", choices=_STEPS, help="what to measure")
    add_settings_arguments(parser)
    add = parser.add_argument
    add("--package", metavar="DIR", type=Path, help="boot: the folder the gateway is installed in")
    add(
        "--executable",
        metavar="FILE",
        default="/opt/engine/bin/vllm",
        help="boot: the engine's program (/opt/engine/bin/vllm)",
    )
    add(
        "--command-line",
        metavar="FILE",
        default="/proc/cmdline",
        help="boot: where attested.engine= and attested.model= stand (/proc/cmdline)",
    )
    add("--gpu-policy", metavar="FILE", help="boot: the policy GPUs are accepted by")
    add("--evidence", metavar="FILE", help="gpu: the evidence that was accepted")
    add("--documents", metavar="DIR", type=Path, help="also keep what the events hash, in DIR")
    add("--dry-run", action="store_true", help="say what would be measured, and measure nothing")
    add("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Measure one step, and say by which events."""
    settings = load_from_arguments(args).settings
    if args.step == "show":
        _show(args, RuntimeLog.load(_log_of(settings)).events)
        return 0
    things = tuple(_things(args, settings))
    events = [thing.event for thing in things]
    extended: bool | None = None
    if not args.dry_run:
        log = _log_of(settings)
        extended = measure(open_provider(settings.evidence.provider), log, events)
    if args.documents is not None:
        _keep(args.documents, things)
    _show(args, events, extended=extended)
    return 0


def _things(args: argparse.Namespace, settings: Settings) -> Iterator[Launched]:
    if args.step == "boot":
        yield from _boot(args, settings)
    elif args.step == "gpu":
        if args.evidence is None:
            raise UsageError("which evidence? --evidence FILE", code="evidence")
        yield measured_file(GPU_EVIDENCE, _full(args.evidence, "evidence of GPUs"))
    else:
        if not args.dry_run:
            asyncio.run(_require_closed(settings))
        yield ready_of(FORBIDDEN_ROUTES)


def _boot(args: argparse.Namespace, settings: Settings) -> Iterator[Launched]:
    """Yield what is known before anything is started, in the order of the events."""
    if args.package is None:
        raise UsageError("where is the gateway installed? --package DIR", code="package")
    roots = parse_pack_roots(
        load_bytes(args.command_line, limit=1 << 16).decode("utf-8", "replace")
    )
    yield config_of(settings)
    yield package_of(args.package)
    if settings.model.lock is not None:
        data = load_bytes(str(settings.model.lock), limit=MAX_LOCK_BYTES)
        lock = parse_model_lock(data)
        if lock.engine is None:
            raise UsageError(
                "the model lock names no engine",
                code="model_lock",
                hint="make it anew with attested model lock --engine NAME==VERSION --arg …",
            )
        require_hardened(lock.engine)
        command = command_of(lock.engine, args.executable)
        yield engine_of(lock.engine, command, ENVIRONMENT, roots.engine)
        yield Launched(
            event=MeasuredEvent(name=MODEL_LOCK_EVENT, sha256=lock.digest), document=data
        )
        digest = lock.engine.arguments_digest
        yield Launched(event=MeasuredEvent(name=ENGINE_ARGS_EVENT, sha256=digest))
    if roots.model is not None:
        yield model_root_of(roots.model)
    if args.gpu_policy is not None:
        yield measured_file(GPU_POLICY, _full(args.gpu_policy, "a policy of GPUs"))


def _full(path: str, what: str) -> bytes:
    """Return what is in a file: nothing at all says nothing of GPUs."""
    data = load_bytes(path, limit=_MAX_FILE)
    if not data:
        raise MalformedError(
            f"{path!a} is empty",
            code="empty",
            expected=what,
            observed="0 bytes",
            hint="see what was to write it",
        )
    return data


async def _require_closed(settings: Settings) -> None:
    """Wait for the engine: this is what says that everything before it has started."""
    patience = settings.selfcheck.patience_seconds or _READY_SECONDS
    names = ", ".join(printable(engine.address) for engine in settings.engines)
    print(
        f"attested: waits up to {patience:g} s (selfcheck.patience_seconds) for {names}",
        file=sys.stderr,
        flush=True,
    )
    strict = SelfCheckSettings(routes="required", patience_seconds=patience)
    await check_own_engines(settings.model_copy(update={"selfcheck": strict}))


def _log_of(settings: Settings) -> Path:
    path = settings.evidence.runtime_log
    if path is None:
        raise UsageError(
            "the settings name no log of what is measured",
            code="runtime_log",
            expected="evidence.runtime_log",
            hint="a file in memory, such as /run/attested/runtime-log.json",
        )
    return path


def _keep(folder: Path, things: Sequence[Launched]) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"the folder {folder} cannot be made",
            code="documents",
            observed=error.strerror or "an I/O error",
        ) from error
    for thing in things:
        if thing.document is not None:
            name = folder / f"{thing.event.name}.json"
            save_bytes(str(name), thing.document, replace=True, mode=0o600)


def _show(args: argparse.Namespace, events: Sequence[Any], *, extended: bool | None = None) -> None:
    if args.json:
        listed = [event.to_json() | {"digest": event.digest.hex()} for event in events]
        print_json({"events": listed, "extended": extended, "step": args.step})
        return
    lines = [line for event in events for line in _event(event)]
    if extended is False:
        lines.append("RTMR3 cannot be extended here: the boot statement will list these events")
    print_text("".join(line + "\n" for line in lines))


def _event(event: MeasuredEvent | KeyEvent) -> Iterator[str]:
    """Yield what was hashed, as `attested measure tdx --event` takes it, and what RTMR3 takes."""
    if isinstance(event, MeasuredEvent):
        yield f"{event.name}={event.sha256.hex}"
    else:
        yield event.name
    yield f"  extends by SHA-384 {event.digest.hex()}"
