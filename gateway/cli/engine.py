"""`attested engine`: become the engine of a model lock, with its arguments and no other."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from attestation.cli.files import load_parsed, print_json
from attestation.errors import UnavailableError, UsageError
from attestation.statement.model_lock import parse_model_lock
from gateway.upstream.engine_start import ENVIRONMENT, command_of, require_hardened

if TYPE_CHECKING:
    from collections.abc import Mapping

HELP = "start the engine of a model lock, with its arguments and a closed environment"

_EPILOG = """\
What `attested measure-runtime boot` measures as `engine` and `engine.args` is what runs: arguments
come from the lock alone, and no variable is inherited. Refused are arguments that open the engine;
vLLM has to have those that close it (docs/spec/runtime-events.md).

examples:
  attested engine --lock model.lock --executable /opt/engine/bin/vllm
  attested engine --lock model.lock --dry-run      # command and environment as JSON

exit codes: 0 shown (--dry-run), else what the engine ends with; 2 usage, or a lock without an
engine; 11 the engine's arguments; 13 a lock that is malformed; 14 the engine cannot be started
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--lock", metavar="FILE", required=True, help="the model lock")
    parser.add_argument(
        "--executable",
        metavar="FILE",
        default="/opt/engine/bin/vllm",
        help="the engine's program (/opt/engine/bin/vllm)",
    )
    parser.add_argument("--dry-run", action="store_true", help="show it, and start nothing")


def run(args: argparse.Namespace) -> int:
    """Replace this process by the engine; returns only after --dry-run."""
    engine = load_parsed(args.lock, parse_model_lock).engine
    if engine is None:
        raise UsageError(
            f"the model lock {args.lock} names no engine",
            code="model_lock",
            hint="make it anew with attested model lock --engine NAME==VERSION --arg …",
        )
    require_hardened(engine)
    command = command_of(engine, args.executable)
    if args.dry_run:
        print_json({"command": list(command), "environment": dict(ENVIRONMENT)})
        return 0
    _become(command, ENVIRONMENT)
    return 0


def _become(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    try:
        os.execve(command[0], list(command), dict(environment))  # noqa: S606 - no shell wanted
    except OSError as error:
        raise UnavailableError(
            f"the engine {command[0]} cannot be started",
            code="engine_start",
            observed=error.strerror or "an I/O error",
            hint="is its pack mounted? --executable names the program",
        ) from error
