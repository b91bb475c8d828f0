"""`attested model lock|verify`: which model is this, and is that folder still it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli import model_lock, model_verify
from attestation.cli.actions import configure_actions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from attestation.cli.main import Command

HELP = "lock a model's files and engine, and check a folder against a lock"

_DESCRIPTION = """\
A model lock lists the files of a model by size and SHA-256, where they were published, and the
engine with every argument.  Its own SHA-256 is the model digest that a gateway measures into
RTMR3 and its receipts name (docs/spec/model.md).
"""
_EPILOG = """\
examples:
  attested model lock ./tiny --name org/tiny --engine vllm==0.32.0 --arg=--max-model-len=4096 \\
      -o model.lock
  attested model verify ./tiny model.lock

`attested model ACTION --help` explains an action, with its exit codes.
"""
_ACTIONS: Mapping[str, Command] = {"lock": model_lock, "verify": model_verify}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    configure_actions(parser, _ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for and return its exit code."""
    code: int = args.act(args)
    return code
