"""What the examples share: the gateway to talk to, somebody else's or one of their own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.errors import UsageError
from attestation.policy import parse_policy
from attestation.result import AttestationResult
from gateway.client import Session, Trust, load_trust

if TYPE_CHECKING:
    import argparse
    from contextlib import ExitStack

KEY_VARIABLE = "GATEWAY_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A session that was accepted, the API key to use it with, and a model it serves."""

    session: Session
    key: str
    model: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the gateway is and what is accepted from it."""
    parser.add_argument("--base-url", help="a running gateway (default: one of our own)")
    parser.add_argument("--key-file", help=f"file with the API key (or set {KEY_VARIABLE})")
    parser.add_argument("--policy", type=Path, help="appraisal policy for --base-url")
    parser.add_argument("--root", type=Path, help="root of a simulated platform to accept")
    parser.add_argument("--model", help="model to ask (with --base-url)")


def open_target(args: argparse.Namespace, stack: ExitStack) -> Target:
    """The gateway of the arguments; without any, one that lives as long as `stack`."""
    return _running(args) if args.base_url else _own(stack)


def _running(args: argparse.Namespace) -> Target:
    if args.policy is None or args.model is None:
        raise UsageError("a gateway of yours needs --policy and --model")
    try:
        key = Path(args.key_file).read_text() if args.key_file else os.environ.get(KEY_VARIABLE, "")
        trust = load_trust(args.policy, simulated_root=args.root)
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    if not key.strip():
        raise UsageError(f"a gateway of yours needs an API key: --key-file, or {KEY_VARIABLE}")
    return Target(session=Session.connect(args.base_url, trust), key=key.strip(), model=args.model)


def _own(stack: ExitStack) -> Target:
    # Only here: talking to somebody else's gateway needs no server packages.
    from gateway.cli.local.gateway import LocalGateway, LocalPlan  # noqa: PLC0415
    from gateway.cli.local.loop import LoopThread  # noqa: PLC0415
    from gateway.cli.local.policy import pin_policy  # noqa: PLC0415
    from gateway.engine.standin import DEFAULT_MODEL, StandInEngine  # noqa: PLC0415

    loop = stack.enter_context(LoopThread())
    engine = StandInEngine(delay=0.01)
    address = loop.call(engine.start())
    stack.callback(lambda: loop.call(engine.close()))
    gateway = stack.enter_context(LocalGateway(LocalPlan(upstream=address, tls="self-signed")))
    trust = Trust(
        policy=parse_policy(pin_policy(gateway.boot).encode()),
        anchors=(gateway.anchor,),
        gate=AttestationResult.require_accepted_or_unsafe_simulated,
    )
    return Target(session=Session.connect(gateway.url, trust), key=gateway.key, model=DEFAULT_MODEL)
