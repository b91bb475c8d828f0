"""Commands that are a group of actions, each of them a command of its own."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.cli.main import Command


def configure_actions(parser: argparse.ArgumentParser, actions: Mapping[str, Command]) -> None:
    """Declare the actions and their arguments; the one asked for runs by `args.act`."""
    form = argparse.RawDescriptionHelpFormatter
    parser.formatter_class = form
    group = parser.add_subparsers(dest="action", required=True, metavar="|".join(actions))
    for name, action in actions.items():
        own = group.add_parser(
            name, help=action.HELP, description=action.HELP, formatter_class=form
        )
        action.configure(own)
        own.set_defaults(act=action.run)
