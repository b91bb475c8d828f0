"""`attested policy lint|test|import`: look at a policy before evidence is judged by it."""

from __future__ import annotations

import argparse
from typing import Any

from attestation.cli import policy_cases, policy_import, policy_lint

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
_ACTIONS = {"lint": policy_lint, "test": policy_cases, "import": policy_import}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", required=True, metavar="lint|test|import")
    form: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    for name, action in _ACTIONS.items():
        own = actions.add_parser(name, help=action.HELP, description=action.HELP, **form)
        action.configure(own)
        own.set_defaults(act=action.run)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for and return its exit code."""
    code: int = args.act(args)
    return code
