"""`attested`: the commands on files, and beside them those that use the network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from attestation.cli import main as files
from attestation.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attestation.cli.main import Command

COMMANDS: Final[Mapping[str, str]] = {
    "demo": "gateway.cli.demo",
    "serve": "gateway.cli.serve",
    "notary": "gateway.cli.notary",
    "keys": "gateway.cli.keys",
    "config": "gateway.cli.config",
    "doctor": "gateway.cli.doctor",
    **files.COMMANDS,
    "call": "gateway.cli.call",
    "conformance": "gateway.cli.conformance",
    "log": "gateway.cli.log",
    "pin": "gateway.cli.pin",
    "endorsements": "gateway.cli.endorsements",
    "demo-engine": "gateway.cli.demo_engine",
    "engine": "gateway.cli.engine",
    "measure-runtime": "gateway.cli.measure_runtime",
}
_CLIENT: Final = frozenset({"httpx", "httpx2", "openai", "anthropic"})
_OWN: Final = frozenset({"attestation", "gateway"})


def load_command(path: str) -> Command:
    """Import a command module.

    Raises `UsageError` naming the extra to install if a library it needs is missing: the base
    install is the offline verifier and nothing else.
    """
    try:
        return files.load_command(path)
    except ModuleNotFoundError as error:
        raise lacking_extra(error) from error


def lacking_extra(error: ModuleNotFoundError) -> UsageError:
    """Return the refusal that names the extra to install; raises `error` if the fault is ours."""
    missing = (error.name or "").partition(".")[0]
    if missing in _OWN:
        raise error
    extra = "client" if missing in _CLIENT else "server"
    return UsageError(
        f"this command needs the package {missing}, which is not installed",
        code="extra",
        hint=f"pip install 'attested-gateway[{extra}]', or '.[{extra}]' in a checkout",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: the entry point of the console script."""
    return files.main(argv, COMMANDS, load_command)


if __name__ == "__main__":
    sys.exit(main())
