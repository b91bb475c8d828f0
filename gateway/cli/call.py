"""`attested call`: one verified request from a shell."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from attestation.cli.files import load_anchors, load_body, print_json, require_one_stdin
from attestation.cli.policy_source import add_policy_options, policy_from
from attestation.encoding import jcs
from attestation.errors import AttestationError, UnavailableError, UsageError
from attestation.policy import NO_POLICY
from attestation.report import document, render_text
from gateway.cli.call_report import USABLE, Asides, report
from gateway.client.endpoint import INFERENCE_PATHS
from gateway.client.judge import Trust
from gateway.client.session import ANCHOR_SECONDS, Session

if TYPE_CHECKING:
    from attestation.result import AttestationResult

HELP = "send one request, verify its receipt, keep everything an auditor needs"
KEY_VARIABLE = "GATEWAY_API_KEY"
CHAT = "/v1/chat/completions"
MAX_WAIT = 86_400.0

_DESCRIPTION = """\
Accepts the gateway's evidence first and sends nothing otherwise; then sends one request, checks
its receipt, waits until a quoted state of the log covers it, and prints the answer's body on
stdout.  The report goes to stderr.
"""
_EPILOG = f"""\
exit codes are those of `attested verify`, by the verdict on gateway and receipt; 14 also for an
answer whose status is not 2xx.  Simulated evidence (15) is accepted only with --root.  12 for a
receipt that is not anchored (--no-wait, or --wait was too short), unless the policy says
require_anchored = false.

The folder left (--out) holds bundle.json, bodies/ with request, answer and nonce, and the receipt
and its openings by themselves.  stderr has the command that verifies it all again.

--high-water F is the file of `attested verify`: it keeps the highest TCB evaluation numbers seen
for each kind of platform; a gateway with lower ones is NOT-ACCEPTED, and nothing is sent to it.

examples:
  attested call https://gateway:8443 --policy policy.toml --key-file key --prompt "hello"
  attested call https://127.0.0.1:8443 --policy demo/policy.toml --root demo/root.pem \\
      --model my-model --prompt "hello" --stream --out run1
  attested call https://gateway:8443 --policy policy.toml --key-file key --fresh --prompt "hello"
  attested call unix:/run/gateway.sock --policy policy.toml --route /v1/responses --body ask.json

The API key is read from --key-file, or from the variable {KEY_VARIABLE} (--key-env).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("url", metavar="URL", help="https://HOST[:PORT], http://LOOPBACK[:PORT] or unix:PATH")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", metavar="TEXT", help="one user message")
    what.add_argument("--body", metavar="FILE", help='the exact request body; "-" is stdin')
    add("--model", metavar="NAME", help="model for --prompt (default: the gateway's first)")
    add("--stream", action="store_true", help="ask for a stream (with --prompt)")
    add("--route", metavar="PATH", default=CHAT, help="inference route (%(default)s)")
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--key-file", metavar="FILE", help="file that holds the API key")
    key.add_argument("--key-env", metavar="NAME", default=KEY_VARIABLE, help="%(default)s")
    add_policy_options(add)
    add("--root", metavar="F", action="append", help="root instead of Intel's; may be repeated")
    add("--high-water", metavar="F", help="refuse endorsements older than those seen before")
    add("--fresh", action="store_true", help="have the boot quoted anew for this call first")
    add("--task-id", metavar="ID", help="sent as X-Task-Id")
    add("--parent", metavar="ID", action="append", help="receipt id this call follows from")
    wait = parser.add_mutually_exclusive_group()
    wait.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        default=ANCHOR_SECONDS,
        help="most time for the receipt to be anchored (%(default)s)",
    )
    wait.add_argument("--no-wait", action="store_true", help="do not wait for that")
    add("--out", metavar="DIR", help="folder to leave (attested-call-RECEIPT)")
    add("--json", action="store_true", help="one JSON document on stdout instead of the body")


def run(args: argparse.Namespace) -> int:
    """Make the call; the verdict's exit code."""
    if args.route not in INFERENCE_PATHS:
        raise UsageError(
            "this route has no receipts",
            code="route",
            expected="one of " + ", ".join(sorted(INFERENCE_PATHS)),
        )
    own_files = (args.body, args.key_file, args.policy)
    require_one_stdin([*own_files, *(args.policy_signer or ()), *(args.root or ())])
    key = _key(args)
    seen: list[AttestationResult] = []
    trust = Trust(
        policy=policy_from(args) or NO_POLICY,
        anchors=load_anchors(args.root),
        gate=lambda result: _gate(result, seen),
        high_water=None if args.high_water is None else Path(args.high_water),
    )
    session = challenged = None
    waiting = ""
    try:
        connected = Session.connect(args.url, trust)
        challenged = _challenge(connected) if args.fresh else None
        session = connected
        _send(session, args, key)
        waiting = _anchor(session, args)
    except AttestationError:
        if not seen or seen[-1].verdict in USABLE:
            raise
        print(render_text(seen[-1], name=args.url), file=sys.stderr, end="")
        if session is None:
            print("the gateway was not accepted: neither key nor request was sent", file=sys.stderr)
        if args.json:
            print_json(document(seen[-1], name=args.url))
        return seen[-1].exit_code
    return report(args, session, Asides(challenged=challenged, waiting=waiting))


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= MAX_WAIT:
        raise argparse.ArgumentTypeError(f"expected more than 0 and at most {MAX_WAIT:g} seconds")
    return seconds


def _gate(result: AttestationResult, seen: list[AttestationResult]) -> None:
    seen.append(result)
    result.require_accepted_or_unsafe_simulated()


def _challenge(session: Session) -> AttestationResult:
    result = session.challenge()
    print("fresh: this boot answered a nonce drawn for this call", file=sys.stderr)
    return result


def _anchor(session: Session, args: argparse.Namespace) -> str:
    """Wait for the receipt to be anchored; why it is not, or nothing."""
    call = session.calls[-1]
    if call.receipt is None or call.receipt_id is None:
        return ""
    if args.no_wait:
        return "not waited for (--no-wait)"
    try:
        left = session.anchor(seconds=args.wait).left
    except KeyboardInterrupt:
        # The answer is here and was checked: it is not lost to impatience.
        return "the wait was interrupted"
    return left.get(call.receipt_id, "")


def _send(session: Session, args: argparse.Namespace, key: str) -> None:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    if args.task_id:
        headers["x-task-id"] = args.task_id
    if args.parent:
        headers["x-receipt-parents"] = ",".join(args.parent)
    with session.http_client(base_url=session.origin, headers=headers) as client:
        try:
            body = load_body(args.body) if args.body else _chat(client, args)
            client.post(args.route, content=body)
        except httpx2.HTTPError as error:
            raise UnavailableError(
                "the gateway did not answer to the end",
                code="unreachable",
                observed=type(error).__name__,
            ) from error


def _chat(client: httpx2.Client, args: argparse.Namespace) -> bytes:
    body: dict[str, Any] = {
        "messages": [{"content": args.prompt, "role": "user"}],
        "model": args.model or _first_model(client),
    }
    if args.stream:
        body["stream"] = True
    return jcs.canonicalize(body)


def _first_model(client: httpx2.Client) -> str:
    answer = client.get("/v1/models")
    try:
        return str(answer.raise_for_status().json()["data"][0]["id"])
    except (httpx2.HTTPStatusError, ValueError, LookupError, TypeError):
        raise UnavailableError(
            "the gateway lists no model for this key",
            code="models",
            expected="status 200 and at least one model at /v1/models",
            observed=f"status {answer.status_code}",
            hint="is the API key right? name a model with --model",
        ) from None


def _key(args: argparse.Namespace) -> str:
    if args.key_file:
        text = load_body(args.key_file).decode("ascii", "replace").strip()
    else:
        text = os.environ.get(args.key_env, "").strip()
    if not text.isascii() or not text.isprintable() or not text:
        where = args.key_file or f"the variable {args.key_env}"
        raise UsageError(
            f"{where} holds no API key",
            code="api_key",
            expected="one line of printable ASCII, as `attested keys add` prints it",
        )
    return text
