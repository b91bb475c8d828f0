"""`attested endorsements`: what Intel signed about platforms, until when it holds, for carrying."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli import endorsements_export, endorsements_status
from attestation.cli.actions import configure_actions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from attestation.cli.main import Command

HELP = "show and export endorsements: what Intel signed about platforms"
ACTIONS: Mapping[str, Command] = {"status": endorsements_status, "export": endorsements_export}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their arguments."""
    configure_actions(parser, ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for and return its exit code."""
    code: int = args.act(args)
    return code
