"""`attested policy lint|test|import`: look at a policy before evidence is judged by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli import policy_cases, policy_import, policy_lint
from attestation.cli.actions import configure_actions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from attestation.cli.main import Command

HELP = "look at appraisal policies: lint them, test them on cases, import measurements"

_DESCRIPTION = """\
A policy decides what is accepted, so it deserves the review that code gets.  `lint` says what a
policy leaves open, `test` whether it comes to the verdicts you expect, `import` makes one from
somebody else's list of measurements.
"""
_EPILOG = """\
examples:
  attested policy lint policy.toml
  attested policy test policy-cases.toml
  attested policy import measurements.json --format flashbots > policy.toml

`attested policy ACTION --help` explains an action, with its exit codes.
"""
_ACTIONS: Mapping[str, Command] = {
    "lint": policy_lint,
    "test": policy_cases,
    "import": policy_import,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    configure_actions(parser, _ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for and return its exit code."""
    code: int = args.act(args)
    return code
