"""`attested conformance` with every topic: the verifier's own and those of a running gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli import conformance
from attestation.cli.conformance import HELP, run
from attestation.conformance import topics as verifier
from gateway.conformance import topics as gateway

if TYPE_CHECKING:
    import argparse

__all__ = ["HELP", "configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    conformance.configure(parser, {**verifier.TOPICS, **gateway.TOPICS})
