"""The demo itself, step by step.

1. A gateway starts in front of an engine, with a fresh API key; its quotes are simulated, or
   the machine's own where it is a TDX guest.
2. A client accepts its evidence before it sends anything.
3. The unmodified OpenAI client asks twice, plain and streaming.
4. The log is quoted over both receipts, and the client takes them anchored.
5. An auditor, another process, verifies the bundle: exit 15 for simulated quotes, 0 for others.
6. One byte of the answer, of the receipt, of its proof and of either quote is changed: each is
   refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.bundle import parse_bundle
from attestation.policy import parse_policy
from attestation.result import Verdict
from gateway.cli.local.policy import pin_policy
from gateway.client.export import BUNDLE_NAME, write_private
from gateway.client.judge import Trust
from gateway.client.session import Session
from gateway.demo import tamper
from gateway.demo.audit import Audit, audit
from gateway.demo.folder import ANSWER_NAME, POLICY_NAME, ROOT_NAME, TAMPERED_NAME
from gateway.demo.grounds import Grounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from openai import OpenAI

    from attestation.result import AttestationResult
    from gateway.cli.local.gateway import LocalGateway
    from gateway.client.call import Call
    from gateway.demo.folder import DemoFolder

PROMPT = "In one sentence: why should an answer come with a receipt?"
MAX_TOKENS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampering:
    """One changed byte, the file in the folder of tampered copies, what the auditor said."""

    file: str
    change: str
    audit: Audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that happened, for the report and the README."""

    url: str
    model: str
    grounds: Grounds
    connected: AttestationResult
    answers: tuple[str, str]
    calls: tuple[Call, ...]
    unanchored: Mapping[str, str]
    audit: Audit
    tamperings: tuple[Tampering, ...]

    @property
    def went_as_told(self) -> bool:
        """Whether all receipts are anchored, the untouched bundle is accepted (as simulated where
        it is that) and every change is refused.
        """
        refused = {Verdict.REJECTED.exit_code, Verdict.MALFORMED.exit_code}
        audited = self.audit.exit_code == self.grounds.expected.exit_code
        changes = [one.audit.exit_code for one in self.tamperings]
        return not self.unanchored and audited and refused.issuperset(changes)


def tell(
    gateway: LocalGateway,
    model: str,
    folder: DemoFolder,
    sdk: Callable[[Session, str], OpenAI],
) -> Story:
    """Run every step against a running gateway and leave its record in `folder`.

    `sdk` makes the OpenAI client.  Raises `AttestationError` where the gateway is not accepted.
    """
    policy = pin_policy(gateway.boot).encode()
    write_private(folder.path / POLICY_NAME, policy)
    grounds = Grounds.of(gateway.boot)
    if grounds.root is not None:
        write_private(folder.path / ROOT_NAME, grounds.root)
    trust = Trust(policy=parse_policy(policy), anchors=(grounds.anchor,), gate=grounds.gate)
    session = Session.connect(gateway.url, trust)
    with sdk(session, gateway.key) as client:
        answers = _ask_plain(client, model), _ask_streaming(client, model)
    report = session.anchor()
    session.export(folder.path, seconds=0)
    return Story(
        url=gateway.url,
        model=model,
        grounds=grounds,
        connected=session.result,
        answers=answers,
        calls=session.calls,
        unanchored=report.left,
        audit=audit(folder.path, BUNDLE_NAME, *grounds.arguments, "--contents", "bodies"),
        tamperings=_tamper(folder, grounds, session.calls[0]),
    )


def _ask_plain(client: OpenAI, model: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": PROMPT}], max_tokens=MAX_TOKENS
    )
    return answer.choices[0].message.content or ""


def _ask_streaming(client: OpenAI, model: str) -> str:
    chunks = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"{PROMPT} Stream it."}],
        max_tokens=MAX_TOKENS,
        stream=True,
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _tamper(folder: DemoFolder, grounds: Grounds, call: Call) -> tuple[Tampering, ...]:
    """Change one byte of the answer, and one in each part of the bundle; each copy is audited."""
    bundle = parse_bundle((folder.path / BUNDLE_NAME).read_bytes())
    jti = call.receipt_id or ""
    answer, in_answer = tamper.change_answer(call.response_body)
    write_private(folder.tampered / ANSWER_NAME, answer)
    about = ("--receipt", jti, "--request", f"bodies/{jti}.request")
    response = f"{TAMPERED_NAME}/{ANSWER_NAME}"
    told = audit(folder.path, BUNDLE_NAME, *grounds.arguments, *about, "--response", response)
    changed = {"receipt.json": tamper.change_receipt(bundle, jti)}
    if bundle.epochs:
        changed["proof.json"] = tamper.change_proof(bundle, jti)
        changed["epoch-quote.json"] = tamper.change_epoch_quote(bundle)
    changed["quote.json"] = tamper.change_quote(bundle)
    return (
        Tampering(file=ANSWER_NAME, change=str(in_answer), audit=told),
        *(_tampered(folder, grounds, name, one) for name, one in changed.items()),
    )


def _tampered(
    folder: DemoFolder, grounds: Grounds, name: str, changed: tuple[bytes, tamper.Change]
) -> Tampering:
    data, change = changed
    write_private(folder.tampered / name, data)
    return Tampering(
        file=name,
        change=str(change),
        audit=audit(folder.path, f"{TAMPERED_NAME}/{name}", *grounds.arguments),
    )
