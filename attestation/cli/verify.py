"""`attested verify`: what does this bundle or receipt prove?"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attestation.bundle import parse_evidence, with_endorsements
from attestation.checks import CHECKS
from attestation.cli.endorsement_files import load_offered
from attestation.cli.files import (
    INSTANT,
    list_folder,
    load_anchors,
    load_body,
    load_bytes,
    load_parsed,
    load_regular,
    require_one_stdin,
)
from attestation.cli.high_water import HighWaterFile
from attestation.cli.measure_inputs import load_prediction
from attestation.cli.moments import Moments
from attestation.cli.policy_source import add_policy_options, policy_from
from attestation.cli.predicted import with_predicted
from attestation.cli.several import Json, Text, expand, progress_for
from attestation.errors import MalformedError, UsageError
from attestation.receipt.seal import receipt_id_in
from attestation.receipt.text import NONCE
from attestation.result import worst
from attestation.statement.model_lock import parse_model_lock
from attestation.verifier import BODY_CHECKS, Contents, malformed_result, verify
from attestation.verifier.memory import QuoteMemory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from attestation.bundle import Bundle
    from attestation.policy import Policy
    from attestation.result import AttestationResult
    from attestation.statement.model_lock import ModelLock
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.endorsed import Endorsed
    from attestation.verifier import HighWater

HELP = "verify audit bundles and receipts, offline"

_EPILOG = """\
exit codes (the worst of several files; 13 before 10 before 11 before 14 before 12 before 15):
  0   ACCEPTED      every required check passed
  10  REJECTED      evidence, a signature or a binding is wrong
  11  NOT-ACCEPTED  the policy does not accept the evidence
  12  INCOMPLETE    nothing wrong, but a required check could not be made
  13  MALFORMED     a file cannot be parsed
  14  UNAVAILABLE   the policy has no signature, and --policy-signer asks for one
  15  SIMULATED     all else passes, on simulated evidence
  1   internal error    2   usage

examples:
  attested verify bundle.json --policy policy.toml
  attested verify bundle.json --policy policy.toml --contents bodies/
  attested verify bundle.json --policy policy.toml --at 2026-09-30T12:00:00Z \\
      --receipt 8c1f... --request request.json --response answer.json --nonce 5d0a...
  attested verify bundle.json --policy policy.toml --model-lock model.lock
  attested verify bundle.json --policy policy.toml --measurements measurements.json
  attested verify bundle.json --policy policy.toml --policy-signer policy.vkey
  attested verify 2026-10/ --policy policy.toml         # a folder, one file at a time
  attested verify demo/bundle.json --policy demo/policy.toml --root demo/root.pem
  curl -s .../v1/receipts/ID?format=bundle -H "authorization: Bearer $KEY" | attested verify -

--at is the instant to judge by, and your statement that you held the evidence then; receipts
never move it.  For a past one the report also says what the same evidence is worth now; the exit
code is that of the stated instant.  --high-water F keeps in F the highest TCB evaluation numbers
seen for each kind of platform, and refuses lower ones from then on.  Without --policy the verdict
is at best INCOMPLETE.  --policy-signer V: a policy that is not signed by V is refused before
anything is verified (13 or 14, or 10 if it is by somebody else, or was changed); with --high-water
so is a lower version than the highest seen of V.  --measurements M (attested measure tdx) only
explains: it says how each boot's registers compare with the predicted ones, which event differs
first, and changes no verdict.

check ids: """

_BODY_FILE = re.compile(r"([0-9a-f]{32})\.(request|response|engine|nonce)")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG + " ".join(CHECKS)
    add = parser.add_argument
    add("files", metavar="FILE", nargs="+", help='bundle, receipt, answer, or folder; "-": stdin')
    add_policy_options(add)
    add("--root", metavar="F", action="append", help="root instead of Intel's; may be repeated")
    add("--at", metavar="T", help="instant to judge by: " + INSTANT)
    add("--receipt", metavar="ID", help="the receipt that the next three are about")
    add("--request", metavar="F", help="the request body, exactly as sent")
    add("--response", metavar="F", help="the response body, exactly as received")
    add("--nonce", metavar="N", help="the nonce that was sent with the request")
    add("--contents", metavar="DIR", help="folder of ID.request, ID.response and ID.nonce files")
    add("--endorsements", metavar="F", action="append", help="file or store to judge by instead")
    add("--model-lock", metavar="F", help="lock of the model that is to have answered")
    add("--measurements", metavar="M", help="what was predicted: says which event differs")
    add("--high-water", metavar="F", help="refuse endorsements older than those seen before")
    add("--progress", action="store_true", help="say on stderr how far it is, terminal or not")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Verify every file, print the report, return the worst verdict's exit code."""
    own_files = (args.policy, args.request, args.response, args.model_lock, args.measurements)
    several = (args.policy_signer, args.root, args.endorsements)
    require_one_stdin([*args.files, *own_files, *(one for names in several for one in names or ())])
    memory = None if args.high_water is None else HighWaterFile(args.high_water)
    judge = _Judge.named_by(args, memory)
    predicted = load_prediction(args.measurements)
    names = expand(args.files)
    asked, somewhere, parsed = _asked_about(args, names)
    told: Text | Json = Json(len(names)) if args.json else Text()
    progress = progress_for(names, wanted=args.progress)
    seen: set[Endorsed] = set()
    for name, item, size in parsed:
        result = judge.judge(item, asked, somewhere)
        told.add(name, result if predicted is None else with_predicted(result, item, predicted))
        # Of a file no more is kept than what is new in it, so that their number does not matter.
        seen.update(result.endorsed)
        if progress:
            progress.add(size)
        # Or they would stay until the next file is read and judged: twice the memory.
        del item, result
    if progress:
        progress.close()
    told.close()
    if memory:
        memory.raise_by(seen)
    return worst(told.verdicts).exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """What all files of one command are judged by."""

    policy: Policy | None
    anchors: tuple[Anchor, ...]
    lock: ModelLock | None
    moments: Moments
    sets: Mapping[int, list[Collateral]]
    high_water: HighWater | None
    quotes: QuoteMemory

    @classmethod
    def named_by(cls, args: argparse.Namespace, memory: HighWaterFile | None) -> _Judge:
        policy, anchors = policy_from(args), load_anchors(args.root)
        lock = None if args.model_lock is None else load_parsed(args.model_lock, parse_model_lock)
        moments = Moments(args.at)
        offered = load_offered(args.endorsements or (), anchors)
        return cls(
            policy=policy,
            anchors=anchors,
            lock=lock,
            moments=moments,
            # A store offers what is in date at each instant.
            sets={at: offered.at(at) for at in moments.each},
            high_water=memory.open(policy) if memory else None,
            quotes=QuoteMemory(),
        )

    def judge(
        self, item: Bundle | MalformedError, asked: Mapping[str, Contents], somewhere: set[str]
    ) -> AttestationResult:
        """Verify one file, with what is known of its receipts beside it."""
        if isinstance(item, MalformedError):
            return malformed_result(item, self.policy, self.moments.at)
        here = {one.jti for one in item.receipts}
        # A receipt is asked about where it is; one that is nowhere, everywhere.
        own = {jti: known for jti, known in asked.items() if jti in here or jti not in somewhere}
        if self.lock is not None:
            own |= {jti: replace(own.get(jti, Contents()), model_lock=self.lock) for jti in here}
        return self.moments.judge(
            lambda at: verify(
                with_endorsements(item, self.sets[at]),
                self.policy,
                at,
                self.anchors,
                own,
                high_water=self.high_water,
                quotes=self.quotes,
            )
        )


def _parsed(name: str) -> tuple[str, Bundle | MalformedError, int]:
    data = load_bytes(name)
    try:
        return name, parse_evidence(data), len(data)
    except MalformedError as error:
        return name, error, len(data)


def _asked_about(
    args: argparse.Namespace, names: Sequence[str]
) -> tuple[dict[str, Contents], set[str], Iterable[tuple[str, Bundle | MalformedError, int]]]:
    """Return what is known beside the files, the receipts that are in them, and the files.

    Only where something is known of receipts are all files read before the first is verified:
    each receipt has to be found in one of them.
    """
    given = (args.request, args.response, args.nonce)
    named = args.receipt is not None or any(value is not None for value in given)
    if not named and args.contents is None:
        return {}, set(), map(_parsed, names)
    parsed = [_parsed(name) for name in names]
    bundles = [item for _, item, _ in parsed if not isinstance(item, MalformedError)]
    somewhere = {item.jti for bundle in bundles for item in bundle.receipts}
    asked = {} if args.contents is None else _from_folder(args.contents, bundles)
    jti = _named_receipt(args, bundles) if named else None
    if jti is None:
        return asked, somewhere, parsed
    known = asked.get(jti, Contents())
    if args.request is not None:
        known = replace(known, request=load_body(args.request))
    if args.response is not None:
        known = replace(known, response=load_body(args.response))
    if args.nonce is not None:
        known = replace(known, nonce=args.nonce)
    return asked | {jti: known}, somewhere, parsed


def _named_receipt(args: argparse.Namespace, bundles: list[Bundle]) -> str | None:
    """Return the receipt the flags are about; None if no file could be read at all."""
    if args.receipt is not None:
        jti = receipt_id_in(args.receipt)
        if jti is None:
            raise UsageError(
                "--receipt is not a receipt id",
                code="receipt_id",
                expected="32 hexadecimal digits, or an id that contains them",
            )
        return jti
    ids = [item.jti for bundle in bundles for item in bundle.receipts]
    if len(ids) > 1:
        raise UsageError(
            f"the files hold {len(ids)} receipts: say which one is meant",
            code="receipt_id",
            expected="--receipt with one of " + ", ".join(ids[:10]),
        )
    return ids[0] if ids else None


def _from_folder(name: str, bundles: list[Bundle]) -> dict[str, Contents]:
    """Read the files named by a receipt; every body check is then demanded."""
    receipts = {item.jti for bundle in bundles for item in bundle.receipts}
    bodies = {jti: Contents(demanded=BODY_CHECKS) for jti in receipts}
    for path in list_folder(name):
        match = _BODY_FILE.fullmatch(path.name)
        if match:
            known = bodies.get(match[1], Contents(demanded=BODY_CHECKS))
            bodies[match[1]] = _with_body(known, match[2], path)
    return bodies


def _with_body(known: Contents, kind: str, path: Path) -> Contents:
    body = load_regular(path)
    if kind == "request":
        return replace(known, request=body)
    if kind == "response":
        return replace(known, response=body)
    if kind == "nonce":
        return replace(known, nonce=_nonce_in(body, path))
    return replace(known, engine=body)


def _nonce_in(data: bytes, path: Path) -> str:
    """Return the nonce in a file of `--contents`; a damaged one must not look like a forgery."""
    nonce = data.decode("latin-1").removesuffix("\n")
    if not NONCE.fullmatch(nonce):
        raise UsageError(
            f"{str(path)!a} holds no nonce",
            code="nonce",
            expected="the text that was sent as X-Receipt-Nonce, in one line",
        )
    return nonce
