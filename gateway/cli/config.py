"""`attested config`: check settings before they are used, and show where each came from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from attestation.errors import UsageError
from gateway.attester.base import require_known
from gateway.processes.users import require_two_users
from gateway.settings import Loaded, load_settings

HELP = "check settings, or show them with where each came from"

_EXAMPLES = """examples:
  attested config check --config gateway.toml
  attested config show --origin --config gateway.toml
  ATTESTED_LISTEN__PORT=9443 attested config show --config gateway.toml --set limits.max_n=4

Settings come from the file, then from ATTESTED_SECTION__NAME variables, then from --set; the
later one wins. Measured settings, marked *, enter config_digest and with it the boot statement.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", choices=("check", "show"), help="what to do")
    add_settings_arguments(parser)
    parser.add_argument("--origin", action="store_true", help="show where each value came from")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every command needs that reads settings."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file of settings")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        dest="assignments",
        help="one setting by its dotted name, over file and environment; may be repeated",
    )


def load_from_arguments(args: argparse.Namespace) -> Loaded:
    """Return the settings that the arguments, the environment and the file make together."""
    flags: dict[str, str] = {}
    for assignment in args.assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise UsageError("--set needs NAME=VALUE", code="config", hint="--set listen.port=8443")
        if name in flags:
            raise UsageError(f"--set {name[:64]} is given twice", code="config")
        flags[name] = value
    return load_settings(args.config, flags)


def run(args: argparse.Namespace) -> int:
    """Check or show; refused settings are raised as `UsageError`."""
    loaded = load_from_arguments(args)
    if args.action == "check":
        require_known(loaded.settings.evidence.provider)
        require_two_users(loaded.settings.notary)
    if args.json:
        print(json.dumps(_document(loaded)))
    elif args.action == "check":
        print(f"settings accepted; config_digest {loaded.settings.config_digest.hex}")
    else:
        _show(loaded, with_origin=args.origin)
    return 0


def _show(loaded: Loaded, *, with_origin: bool) -> None:
    for origin in loaded.origins:
        mark = "*" if origin.measured else " "
        text = f"{mark} {origin.path} = {json.dumps(origin.value)}"
        print(f"{text:<58} # {origin.source}" if with_origin else text)
    print(f"* measured; config_digest {loaded.settings.config_digest.hex}")


def _document(loaded: Loaded) -> dict[str, object]:
    return {
        "config_digest": loaded.settings.config_digest.hex,
        "settings": [
            {
                "measured": origin.measured,
                "name": origin.path,
                "origin": origin.source,
                "value": origin.value,
            }
            for origin in loaded.origins
        ],
    }
