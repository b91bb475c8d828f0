"""`attested`: the table of commands on files, and what every command has in common."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Protocol, cast

from attestation.encoding.printable import printable
from attestation.errors import AttestationError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COMMANDS: Mapping[str, str] = {
    "verify": "attestation.cli.verify",
    "explain": "attestation.cli.explain",
    "inspect": "attestation.cli.inspect",
    "quote": "attestation.cli.quote",
    "eventlog": "attestation.cli.eventlog",
    "policy": "attestation.cli.policy",
    "pin": "attestation.cli.pin",
    "model": "attestation.cli.model",
    "measure": "attestation.cli.measure",
    "release": "attestation.cli.release",
    "bundle": "attestation.cli.bundle",
    "endorsements": "attestation.cli.endorsements",
    "log": "attestation.cli.log",
    "conformance": "attestation.cli.conformance",
    "version": "attestation.cli.version",
}

PROG = "attested"
INTERNAL_ERROR = 1
INTERRUPTED = 130
DEBUG_VARIABLE = "ATTESTED_DEBUG"

_ABOUT = "Confidential inference with receipts that anyone can verify offline."
_FOOTER = (
    f"`{PROG} COMMAND --help` explains a command and shows examples.\n"
    "Results go to stdout, everything else to stderr."
)


class Command(Protocol):
    """What a command module offers."""

    HELP: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code; refusals are raised."""


def load_command(path: str) -> Command:
    """Import a command module."""
    return cast("Command", importlib.import_module(path))


def main(
    argv: Sequence[str] | None = None,
    commands: Mapping[str, str] = COMMANDS,
    load: Callable[[str], Command] = load_command,
) -> int:
    """Run one command and return its exit code.

    A refusal prints one message with its hint on stderr and gives the code of its kind.
    Anything unforeseen gives 1 and only its type: a foreign message could quote content.
    ATTESTED_DEBUG=1 shows the traceback instead.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _silence_libraries()
    try:
        _require_stdout()
        code = _dispatch(arguments, commands, load)
        sys.stdout.flush()
        return code
    except AttestationError as error:
        print(describe(error), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader went away (`attested ... | head`).
        _drop_stdout()
        return INTERNAL_ERROR
    except OSError as error:
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exception(error)
        _drop_stdout()
        print(describe(_undelivered(error)), file=sys.stderr)
        return UnavailableError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001
        # The last line of defence: an internal error must not end in a wall of text that may
        # quote prompts or keys.
        _report_internal(error)
        return INTERNAL_ERROR


def _require_stdout() -> None:
    # The interpreter has no sys.stdout where the shell closed it (`>&-`).
    if cast("object", sys.stdout) is None:
        raise UsageError(
            "the result has nowhere to go: stdout is closed",
            code="stdout",
            expected="an open stdout",
            hint="results go to stdout; /dev/null takes what is not wanted",
        )


def _undelivered(error: OSError) -> UnavailableError:
    """Files are read and written where it is said which one failed: what is left is stdout."""
    return UnavailableError(
        "the result could not be written in full",
        code="stdout",
        expected="room for it where stdout goes",
        observed=error.strerror or "an I/O error",
        hint=f"rely on nothing that was printed, and run it again; {DEBUG_VARIABLE}=1 shows where "
        "it failed",
    )


def _drop_stdout() -> None:
    """Point stdout elsewhere, or the interpreter complains of it once more when it exits."""
    with contextlib.suppress(OSError):  # it may be no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _silence_libraries() -> None:
    """Keep remarks of libraries about odd certificates, refused anyway, out of the output."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore", UserWarning)


def describe(error: AttestationError) -> str:
    """Return a refusal as a few lines for a terminal."""
    lines = [f"{PROG}: {error.message}"]
    for label, text in (
        ("expected", error.expected),
        ("seen", error.observed),
        ("hint", error.hint),
    ):
        if text:
            lines.append(f"  {label:<9}{text}")
    return "\n".join(map(printable, lines))


def _dispatch(
    arguments: list[str], commands: Mapping[str, str], load: Callable[[str], Command]
) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview(commands, load))
        return 0 if arguments else UsageError.exit_code
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        name = "version"
    if name not in commands:
        raise _unknown(name, commands)
    command = load(commands[name])
    parser = argparse.ArgumentParser(prog=f"{PROG} {name}", description=command.HELP)
    command.configure(parser)
    try:
        parsed = parser.parse_args(rest)
    except SystemExit as stop:
        # argparse ends the process after --help and after errors; here it only ends the command.
        return stop.code if isinstance(stop.code, int) else UsageError.exit_code
    return command.run(parsed)


def _overview(commands: Mapping[str, str], load: Callable[[str], Command]) -> str:
    width = max(map(len, commands)) + 2
    lines = [f"usage: {PROG} COMMAND [ARGUMENTS]", "", _ABOUT, "", "commands:"]
    for name, path in commands.items():
        try:
            text = load(path).HELP
        except (UsageError, ImportError):
            text = "(needs an extra that is not installed)"
        lines.append(f"  {name:<{width}}{text}")
    return "\n".join([*lines, "", _FOOTER])


def _unknown(name: str, commands: Mapping[str, str]) -> UsageError:
    close = difflib.get_close_matches(name, list(commands), n=1)
    return UsageError(
        f"there is no command {ascii(name)[:80]}",
        code="command",
        expected=", ".join(commands),
        hint=f"did you mean `{PROG} {close[0]}`?" if close else f"see `{PROG} --help`",
    )


def _report_internal(error: Exception) -> None:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    else:
        print(
            f"{PROG}: internal error ({type(error).__name__}); this is a bug\n"
            f"  hint     set {DEBUG_VARIABLE}=1 to see where; the output may quote your data",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
