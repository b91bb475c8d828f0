"""`attested policy lint|test|import|key|sign`: look after a policy before it judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli import policy_cases, policy_import, policy_key, policy_lint, policy_sign
from attestation.cli.actions import configure_actions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from attestation.cli.main import Command

HELP = "look after appraisal policies: lint, test on cases, import measurements, sign"

_DESCRIPTION = """\
A policy decides what is accepted, so it deserves the review that code gets.  `lint` says what a
policy leaves open, `test` whether it comes to the verdicts you expect, `import` makes one from
somebody else's list of measurements.  `key` and `sign` let those who verify tell your policy from
anybody else's (--policy-signer).
"""
_EPILOG = """\
examples:
  attested policy lint policy.toml
  attested policy test policy-cases.toml
  attested policy import measurements.json --format flashbots > policy.toml
  attested policy key --name example.com/policy -o policy.key > policy.vkey
  attested policy sign policy.toml --key policy.key

`attested policy ACTION --help` explains an action, with its exit codes.
"""
_ACTIONS: Mapping[str, Command] = {
    "lint": policy_lint,
    "test": policy_cases,
    "import": policy_import,
    "key": policy_key,
    "sign": policy_sign,
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
