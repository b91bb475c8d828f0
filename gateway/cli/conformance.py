"""`attested conformance` with every topic: the verifier's own and those of a running gateway."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from attestation.cli import conformance
from attestation.cli.conformance import HELP
from attestation.conformance import topics as verifier
from gateway.cli.main import lacking_extra
from gateway.conformance import topics as gateway

if TYPE_CHECKING:
    import argparse

__all__ = ["HELP", "configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    conformance.configure(parser, {**verifier.TOPICS, **gateway.TOPICS})


def run(args: argparse.Namespace) -> int:
    """Run the topic; `UsageError` names the extra to install if it needs one that is missing."""
    try:
        # Here, because the process that runs the cases could only die of it.
        import_module(gateway.TOPICS.get(args.topic, __name__))
    except ModuleNotFoundError as error:
        raise lacking_extra(error) from error
    return conformance.run(args)
