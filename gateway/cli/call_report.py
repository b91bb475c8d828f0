"""What `attested call` leaves and says of the call it made."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attestation.cli.files import print_json
from attestation.encoding import jcs
from attestation.errors import UnavailableError
from attestation.receipt.claims import End
from attestation.report import document, render_text
from attestation.result import AttestationResult, Verdict
from gateway.client.export import BODIES_NAME, BUNDLE_NAME, write_private

if TYPE_CHECKING:
    import argparse

    from gateway.client.call import Call
    from gateway.client.session import Session

USABLE = (Verdict.ACCEPTED, Verdict.SIMULATED)
"""Verdicts under which an answer may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asides:
    """What the report says besides the call: the boot's answer to a nonce, if it was asked for
    one, and why the receipt is not anchored, if it is not.
    """

    challenged: AttestationResult | None
    waiting: str


def report(args: argparse.Namespace, session: Session, asides: Asides) -> int:
    """Leave the folder, print report and answer; the exit code of the call's verdict.

    Raises `UnavailableError` for a request that got no receipt, or no whole answer.
    """
    call = session.calls[-1]
    if call.result is None:
        raise UnavailableError(
            "the gateway refused the request without a receipt",
            code="status",
            observed=f"status {call.status}",
            hint="401 means that it does not know the API key",
        )
    folder = Path(args.out or f"attested-call-{call.receipt_id}")
    session.export(folder, seconds=0)
    _write_alone(folder, call)
    print(render_text(call.result, name=args.url), file=sys.stderr, end="")
    print(f"receipt {call.receipt_id}; everything is in {folder}", file=sys.stderr)
    print(f"again: {_again(args, folder)}", file=sys.stderr)
    if asides.waiting:
        print(_unanchored(call, asides.waiting), file=sys.stderr)
    if args.json:
        print_json(_document(args.url, call, call.result, folder, asides))
    else:
        sys.stdout.buffer.write(call.response_body)
    if call.result.verdict in USABLE:
        _require_answered(call)
    return call.result.exit_code


def _again(args: argparse.Namespace, folder: Path) -> str:
    """The command by which somebody who has the folder verifies it, nonce and bodies included."""
    words = ["attested", "verify", str(folder / BUNDLE_NAME)]
    words += ["--contents", str(folder / BODIES_NAME)]
    if args.policy is not None:
        words += ["--policy", args.policy]
    for signer in args.policy_signer or ():
        words += ["--policy-signer", signer]
    for root in args.root or ():
        words += ["--root", root]
    return shlex.join(words)


def _unanchored(call: Call, reason: str) -> str:
    return (
        f"not anchored: {reason}; with the same key, for as long as the gateway keeps it, "
        f"GET /v1/receipts/{call.receipt_id}?wait=anchored&format=bundle has the anchored "
        "receipt: `attested bundle` merges it into bundle.json"
    )


def _require_answered(call: Call) -> None:
    """Raise `UnavailableError` unless the receipt speaks of a whole answer with a 2xx status."""
    receipt = call.parse_receipt()
    end = receipt.claims.response.end if receipt is not None else None
    if call.succeeded and end is End.COMPLETE:
        return
    whole = f"the engine answered with status {call.status}"
    raise UnavailableError(
        whole if end is End.COMPLETE else "the request was not answered to the end",
        code="status",
        expected="status 2xx and end complete",
        observed=f"status {call.status} and end {end}, as the receipt says",
    )


def _write_alone(folder: Path, call: Call) -> None:
    write_private(folder / "receipt.jws", (call.receipt or "").encode())
    if call.openings is not None:
        write_private(folder / "openings.json", jcs.canonicalize(call.openings.to_json()))


def _document(
    url: str,
    call: Call,
    result: AttestationResult,
    folder: Path,
    asides: Asides,
) -> dict[str, Any]:
    challenged = asides.challenged
    return {
        "schema": "attested-gateway/call/v1",
        "status": call.status,
        "receipt_id": call.receipt_id,
        "nonce": call.nonce,
        "folder": str(folder),
        "verdict": str(result.verdict),
        "exit_code": result.exit_code,
        "anchored": call.anchored,
        "waiting": asides.waiting or None,
        "result": document(result, name=url),
        "challenge": document(challenged, name=url) if challenged is not None else None,
    }
