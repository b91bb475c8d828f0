"""`attested demo`: the whole story on one machine, in a few seconds."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from attestation.cli.main import PROG
from attestation.errors import EvidenceError, UnavailableError
from gateway.attester.simulated.provider import RealDevices
from gateway.cli.local.gateway import LocalGateway, LocalPlan
from gateway.cli.local.loop import LoopThread
from gateway.demo import report
from gateway.demo.cases import case_file
from gateway.demo.folder import prepare
from gateway.demo.story import tell
from gateway.engine.standin import DEFAULT_MODEL, StandInEngine

if TYPE_CHECKING:
    from openai import OpenAI

    from gateway.client.session import Session
    from gateway.demo.folder import DemoFolder
    from gateway.demo.story import Story

HELP = "show the whole story: gateway, receipts, verifier, tampering"
DEFAULT_FOLDER = "attested-demo"
_EVENT_DELAY = 0.01
_SIMULATED = "simulated:"
# Of the real providers the one every TDX guest has.  RTMR3 is left alone: what a demo extended
# could not be taken back, and no gateway could then start in this trust domain.
_REAL = "configfs-tsm:?rtmr3=off"

_DESCRIPTION = """\
Starts a gateway with simulated TDX quotes in front of a stand-in engine, asks it twice through
the unmodified OpenAI client, waits until the log is quoted over both receipts, verifies the audit
bundle in another process, and shows that one changed byte of answer, receipt, proof or either
quote is refused.  Needs no TEE, GPU, network or account.  In a TDX guest it uses the guest's own
quotes, and needs the platform's endorsements.
"""
_EPILOG = """\
exit codes: 0 everything went as told; 10 something did not; 2 usage; 14 something is missing

examples:
  attested demo
  attested demo --out /tmp/demo --json
  attested demo --upstream http://127.0.0.1:8000     (a real vLLM instead of the stand-in)
  attested demo --keep                               (leave the gateway running to play with)
  attested demo --collateral collateral.json         (in a TDX guest)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--upstream", metavar="URL", help="engine to use: http://HOST:PORT or unix:PATH")
    add("--model", metavar="NAME", help="model to ask (default: the engine's first)")
    add("--out", metavar="DIR", default=DEFAULT_FOLDER, help="folder to leave (%(default)s)")
    add("--provider", metavar="URI", help=f"quotes from here (default: {_SIMULATED}, or in a TDX "
        f"guest {_REAL})")  # fmt: skip
    add("--collateral", metavar="FILE", help="endorsements of a real platform (dcap JSON)")
    add("--keep", action="store_true", help="keep gateway and engine running until Ctrl-C")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Tell the story; `EvidenceError` if it did not go as told."""
    _require_openai()
    provider = _provider(args)
    with ExitStack() as stack:
        upstream, engine = args.upstream or _stand_in(stack), None
        if args.upstream is None:
            engine = f"stand-in/{DEFAULT_MODEL}"
        model = args.model or _first_model(upstream)
        folder = prepare(Path(args.out))
        _say("starting a gateway and its engine …")
        plan = LocalPlan(
            upstream=upstream,
            engine=engine,
            tls="self-signed",
            provider=provider,
            collateral_file=Path(args.collateral).absolute() if args.collateral else None,
        )
        gateway = stack.enter_context(LocalGateway(plan))
        story = _told(gateway, model, folder)
        folder.explain(case_file(story), report.readme(story))
        if args.json:
            print(json.dumps(report.document(story, str(folder.path), _program())))
        else:
            print(report.render(story, str(folder.path), _program()), end="")
        sys.stdout.flush()
        if not story.went_as_told:
            raise EvidenceError(
                "the demo did not go as told",
                code="demo",
                expected=f"anchored receipts, exit {story.grounds.expected.exit_code} for the "
                "bundle, 10 or 13 for every change",
                hint="this is a bug in the gateway or the verifier",
            )
        if args.keep:
            _keep(gateway, model)
    return 0


def _program() -> str:
    """What this command was called by, to be called by again: in a checkout it is on no path."""
    called = sys.argv[0]
    if Path(called).name != PROG or shutil.which(PROG) == called:
        return PROG
    return called


def _told(gateway: LocalGateway, model: str, folder: DemoFolder) -> Story:
    from openai import APIStatusError, OpenAIError  # noqa: PLC0415 - an extra of the demo's own

    try:
        return tell(gateway, model, folder, _openai)
    except OpenAIError as error:
        # The SDK's own text quotes what the engine answered; only the status is passed on.
        status = f"status {error.status_code}" if isinstance(error, APIStatusError) else ""
        raise UnavailableError(
            "the engine did not answer the demo's questions",
            code="upstream",
            expected="chat completions, plain and streaming",
            observed=status or type(error).__name__,
            hint="does it serve the model named with --model?",
        ) from error


def _stand_in(stack: ExitStack) -> str:
    loop = stack.enter_context(LoopThread())
    engine = StandInEngine(delay=_EVENT_DELAY)
    address = loop.call(engine.start())
    stack.callback(lambda: loop.call(engine.close()))
    return address


def _first_model(upstream: str) -> str:
    uds = upstream.removeprefix("unix:") if upstream.startswith("unix:") else None
    origin = "http://localhost" if uds else upstream
    try:
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=uds)) as client:
            cards = client.get(f"{origin}/v1/models").raise_for_status().json()["data"]
        return str(cards[0]["id"])
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, LookupError, TypeError) as error:
        raise UnavailableError(
            "the engine does not list its models",
            code="upstream",
            expected="GET /v1/models as vLLM answers it",
            observed=type(error).__name__,
            hint="is it running at this address? name a model with --model otherwise",
        ) from error


def _openai(session: Session, key: str) -> OpenAI:
    from openai import OpenAI  # noqa: PLC0415 - an extra: only the demo needs it

    return OpenAI(
        base_url=session.base_url, api_key=key, http_client=session.http_client(), max_retries=0
    )


def _require_openai() -> None:
    try:
        import openai  # noqa: F401, PLC0415 - asked for its presence only
    except ImportError:
        raise UnavailableError(
            "the demo speaks to the gateway with the openai package, which is not installed",
            code="extra",
            hint="pip install 'attested-gateway[demo]', or '.[demo]' in a checkout",
        ) from None


def _provider(args: argparse.Namespace) -> str:
    """Return where quotes come from: the machine's own where it has any (SPEC section 1)."""
    found = RealDevices().found()
    provider = str(args.provider or (_SIMULATED if found is None else _REAL))
    if not provider.startswith(_SIMULATED) and args.collateral is None:
        raise UnavailableError(
            "the demo with real quotes needs the endorsements of this platform",
            code="collateral",
            expected="--collateral FILE: collateral as dcap-qvl writes it (JSON)",
            observed=f"none, on a TDX guest ({found})" if found else "none",
            hint="Intel's provisioning service hands them out by the platform's FMSPC; simulated "
            "evidence never stands beside real evidence",
        )
    return provider


def _keep(gateway: LocalGateway, model: str) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]})
    _say(
        f"the gateway stays at {gateway.url} until Ctrl-C; its only API key:\n"
        f"  {gateway.key}\n"
        "  curl --insecure "
        f'{gateway.url}/v1/chat/completions -H "authorization: Bearer {gateway.key}" \\\n'
        "    -H 'content-type: application/json' -H 'x-receipt: inline' -i \\\n"
        f"    -d {shlex.quote(body)}"
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
