"""`attested policy lint`: what does this policy leave open, and what can it never accept?"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from attestation.cli.files import (
    INSTANT,
    STDIN,
    load_bytes,
    parse_instant,
    print_json,
    print_text,
    require_one_stdin,
)
from attestation.cli.policy_source import SIGNER, load_signature, load_signers
from attestation.encoding.printable import printable
from attestation.errors import MalformedError, PolicyError
from attestation.policy import parse_policy
from attestation.policy.finding import Severity
from attestation.policy.lint import lint_policy
from attestation.policy.lint_signature import lint_signature
from attestation.policy.parse import MAX_POLICY_BYTES

if TYPE_CHECKING:
    from attestation.merkle.note import Vkey
    from attestation.policy import Policy
    from attestation.policy.finding import Finding

HELP = "say what a policy leaves open, and what in it can never hold"
SCHEMA = "attested-gateway/policy-lint/v1"
_WIDTH = 100

_EPILOG = """\
An error is a line that cannot do what it says; a warning accepts more than a careful verifier
would; a note is worth knowing.  No finding keeps a policy from being used: what it says is your
decision, and this is its review.  A signature file beside a policy is looked at too.

exit codes (the worst of several files):
  0   no finding, or notes only
  11  there are warnings or errors: well-formed, and not to be accepted without a look; a signature
      that would be refused is an error
  13  a file is not a policy; the message names the key
  2   usage

examples:
  attested policy lint policy.toml
  attested policy lint *.toml --at 2027-01-01      # what will have ended by then?
  attested policy lint policy.toml --json
  attested policy lint policy.toml --policy-signer policy.vkey      # is it signed by this key?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linted:
    """One file: its policy and the findings, or why it is none."""

    file: str
    policy: Policy | None = None
    findings: tuple[Finding, ...] = ()
    malformed: MalformedError | None = None

    @property
    def exit_code(self) -> int:
        """What this file by itself ends in."""
        if self.malformed is not None:
            return self.malformed.exit_code
        grave = any(finding.severity is not Severity.NOTE for finding in self.findings)
        return PolicyError.exit_code if grave else 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("files", metavar="FILE", nargs="+", help='policy (TOML); "-" is stdin')
    parser.add_argument("--at", metavar="T", help="instant to judge ends by: " + INSTANT)
    parser.add_argument("--policy-signer", metavar="V", action="append", help=SIGNER)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Print the findings of every file; return the worst file's exit code."""
    require_one_stdin([*args.files, *(args.policy_signer or ())])
    at = parse_instant(args.at)
    signers = load_signers(args.policy_signer)
    linted = [_lint(name, at, signers) for name in args.files]
    code = max(one.exit_code for one in linted)
    if args.json:
        files = [_document(one) for one in linted]
        print_json({"schema": SCHEMA, "at": at, "exit_code": code, "files": files})
    else:
        print_text("".join(f"{printable(line)}\n" for one in linted for line in _lines(one)))
    return code


def _lint(name: str, at: int, signers: tuple[Vkey, ...]) -> Linted:
    data = load_bytes(name, limit=MAX_POLICY_BYTES)
    try:
        policy = parse_policy(data)
    except MalformedError as error:
        return Linted(file=name, malformed=error)
    signature = None if name == STDIN else load_signature(name)
    findings = (*lint_signature(data, signature, signers), *lint_policy(policy, at))
    return Linted(file=name, policy=policy, findings=findings)


def _lines(one: Linted) -> list[str]:
    if one.malformed is not None:
        return [f"{one.file}: MALFORMED: {one.malformed}"]
    lines = []
    for finding in one.findings:
        lines.append(f"{one.file}: {finding.severity}: {finding.path} [{finding.code}]")
        for text in (finding.meaning, f"to do: {finding.remedy}"):
            lines += textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return [*lines, f"{one.file}: {_count(one)}"]


def _count(one: Linted) -> str:
    counts = {
        severity: sum(finding.severity is severity for finding in one.findings)
        for severity in Severity
    }
    told = [f"{n} {name}{'' if n == 1 else 's'}" for name, n in counts.items() if n]
    return ", ".join(told) or "nothing to remark"


def _document(one: Linted) -> dict[str, Any]:
    digest = one.policy.digest if one.policy is not None else None
    malformed = one.malformed
    return {
        "file": one.file,
        "exit_code": one.exit_code,
        "policy_digest": digest.hex if digest is not None else None,
        "malformed": None
        if malformed is None
        else {
            "message": malformed.message,
            "expected": malformed.expected,
            "observed": malformed.observed,
            "hint": malformed.hint,
        },
        "findings": [asdict(finding) for finding in one.findings],
    }
