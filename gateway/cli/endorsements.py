"""`attested endorsements` with `fetch`, the one action of it that uses the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli.actions import configure_actions
from attestation.cli.endorsements import ACTIONS, run
from attestation.cli.endorsements import HELP as _FILES_HELP
from gateway.cli import endorsements_fetch

if TYPE_CHECKING:
    import argparse

__all__ = ["HELP", "configure", "run"]

HELP = _FILES_HELP.replace("show and export", "fetch, show and export")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their arguments."""
    configure_actions(parser, {"fetch": endorsements_fetch, **ACTIONS})
