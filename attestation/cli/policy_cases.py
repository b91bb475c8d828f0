"""`attested policy test`: does a policy come to the verdicts that its cases expect?"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attestation.bundle import parse_evidence, with_endorsements
from attestation.cli.files import (
    is_regular,
    load_anchors,
    load_bytes,
    load_collateral,
    load_parsed,
    load_regular,
    print_json,
    print_text,
    require_one_stdin,
)
from attestation.cli.policy_source import add_policy_options, load_policy, load_signers
from attestation.cli.quote import decode_quote
from attestation.encoding.counts import counted
from attestation.encoding.printable import printable
from attestation.errors import AttestationError, EvidenceError, MalformedError, UsageError
from attestation.policy import NO_POLICY
from attestation.policy.cases import differences, parse_cases
from attestation.policy.signature import SUFFIX
from attestation.statement.model_lock import parse_model_lock
from attestation.verifier import (
    Contents,
    malformed_result,
    parse_high_water,
    verify,
    verify_raw_quote,
)

if TYPE_CHECKING:
    from attestation.merkle.note import Vkey
    from attestation.policy import Policy
    from attestation.policy.cases import Case
    from attestation.result import AttestationResult, Verdict
    from attestation.verifier import HighWater

HELP = "verify the evidence of each case and compare with what the case expects"
SCHEMA = "attested-gateway/policy-test/v1"

_EPILOG = """\
CASES is a TOML file (docs/spec/policy-cases.md).  It names a policy and, for each case, evidence
beside it, the instant to judge by, the expected verdict and, if you like, single checks:

  schema = "policy-cases/1"
  policy = "policy.toml"

  [[cases]]
  name = "last month's bundle"
  bundle = "evidence/bundle.json"
  at = 2026-09-30T12:00:00Z
  verdict = "ACCEPTED"

Every file that a case names lies below the folder of CASES.  --policy puts another policy in
the place of all that the file names, for example the one you are about to deploy.

exit codes:
  0   every case came to what it expects
  10  some case did not; or a policy is not authentic (--policy-signer)
  14  a policy has no signature (--policy-signer)
  13  a case file, policy, root or set of endorsements is malformed
  2   usage, or a file that a case names is missing

examples:
  attested policy test policy-cases.toml
  attested policy test cases/*.toml --policy next.toml --json
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One case, what it came to, and in words what is otherwise than expected."""

    file: str
    case: Case
    verdict: Verdict
    differences: tuple[str, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("files", metavar="CASES", nargs="+", help="case file (TOML)")
    add_policy_options(parser.add_argument, "judge by this policy instead")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Try every case, print a line for each, say whether all came out as expected."""
    require_one_stdin([*args.files, args.policy, *(args.policy_signer or ())])
    signers = load_signers(args.policy_signer)
    policy = None if args.policy is None else load_policy(args.policy, signers)
    tried = [one for name in args.files for one in _try_file(name, policy, signers)]
    other = [one for one in tried if one.differences]
    code = EvidenceError.exit_code if other else 0
    if args.json:
        print_json(_document(tried, code))
    else:
        fitting = f"{len(tried) - len(other)} as expected, {len(other)} not"
        told = f"{counted(len(tried), 'case')}: {fitting}\n"
        print_text("".join(map(_lines, tried)) + told)
    return code


def _try_file(name: str, policy: Policy | None, signers: tuple[Vkey, ...]) -> list[Tried]:
    cases = load_parsed(name, parse_cases)
    desk = _Desk(Path(name).parent, cases.policy, policy, signers)
    return [desk.tried(name, case) for case in cases.cases]


class _Desk:
    """The folder of one case file; `instead` is the policy in the place of all it names.

    One of `signers`, if there are any, has to have signed each policy that the file names.
    """

    def __init__(
        self,
        folder: Path,
        policy: str | None,
        instead: Policy | None,
        signers: tuple[Vkey, ...],
    ) -> None:
        self._folder = folder
        self._policy = policy
        self._instead = instead
        self._signers = signers

    def tried(self, file: str, case: Case) -> Tried:
        """Return what became of one case."""
        try:
            result = self._result(case)
        except AttestationError as error:
            error.message = f"case {case.name!a}: {error.message}"
            raise
        return Tried(
            file=file, case=case, verdict=result.verdict, differences=differences(case, result)
        )

    def _result(self, case: Case) -> AttestationResult:
        policy = self._instead or load_policy(self._named_policy(case), self._signers)
        anchors = load_anchors([self._inside(name) for name in case.roots])
        known = self._known(case, policy)
        if case.bundle is None:
            return verify_raw_quote(
                decode_quote(load_bytes(self._inside(case.quote or ""))),
                load_collateral(self._inside(case.collateral)) if case.collateral else None,
                policy,
                case.at,
                anchors,
                high_water=known,
            )
        sets = [load_collateral(self._inside(name)) for name in case.endorsements]
        try:
            bundle = parse_evidence(load_bytes(self._inside(case.bundle)))
        except MalformedError as error:
            return malformed_result(error, policy, case.at)
        contents = {case.receipt: self._contents(case)} if case.receipt else {}
        return verify(
            with_endorsements(bundle, sets), policy, case.at, anchors, contents, high_water=known
        )

    def _known(self, case: Case, policy: Policy | None) -> HighWater | None:
        """Return what the case says was seen before; the file stays as it is."""
        if case.high_water is None:
            return None
        known = load_parsed(self._inside(case.high_water), parse_high_water)
        return known.after(policy or NO_POLICY)

    def _named_policy(self, case: Case) -> str:
        name = case.policy or self._policy
        if name is None:
            raise UsageError(
                "there is no policy to judge it by",
                code="cases_policy",
                expected="the key policy in the case file or in the case, or --policy",
            )
        path = self._inside(name)
        if self._signers and is_regular(path + SUFFIX):
            # It is read too, and no more than the policy may it lead out of the folder.
            self._inside(name + SUFFIX)
        return path

    def _contents(self, case: Case) -> Contents:
        request = load_regular(Path(self._inside(case.request))) if case.request else None
        response = load_regular(Path(self._inside(case.response))) if case.response else None
        lock = None
        if case.model_lock is not None:
            lock = load_parsed(self._inside(case.model_lock), parse_model_lock)
        return Contents(request=request, response=response, nonce=case.nonce, model_lock=lock)

    def _inside(self, name: str) -> str:
        """Return the path of a regular file that really lies below the folder.

        Case files come from other people: none may have a device read, or a file of yours.
        """
        path = self._folder / name
        try:
            inside = path.resolve().is_relative_to(self._folder.resolve()) and path.is_file()
        except (OSError, RuntimeError):
            inside = False
        if not inside:
            raise UsageError(
                f"the case file names {name!a}, which is no file in its folder",
                code="cases_file",
                expected=f"a regular file below {str(self._folder)!a}, not behind a link out of it",
            )
        return str(path)


def _lines(tried: Tried) -> str:
    mark = "✗" if tried.differences else "✓"
    lines = [f"{mark} {tried.case.name}: {tried.verdict}"]
    lines += [f"    {text}" for text in tried.differences]
    return "".join(f"{printable(line)}\n" for line in lines)


def _document(tried: list[Tried], code: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "exit_code": code,
        "cases": [
            {
                "file": one.file,
                "name": one.case.name,
                "ok": not one.differences,
                "expected": str(one.case.verdict),
                "got": str(one.verdict),
                "differences": list(one.differences),
            }
            for one in tried
        ],
    }
