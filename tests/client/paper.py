"""A gateway of paper: a boot made by hand behind a scripted HTTP server.

Its receipts, quotes and epochs are as genuine as those of a running one; what it answers when a
receipt is fetched is the test's choice, step by step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from attestation.bundle import MEDIA_TYPE, Bundle, BundledReceipt, EpochEvidence, make_bundle
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.merkle.tlog_proof import TlogProof, render
from attestation.merkle.tree import inclusion_path, leaf_hash, root_hash
from attestation.result import AttestationResult
from attestation.statement import EpochStatement
from attestation.tdx.eventlog import KeyEvent
from gateway.client.judge import Trust
from gateway.client.session import Session
from gateway.engine.scripted import JSON, Close, Script
from gateway.engine.wire import EngineRequest
from tests.client.fakes import ThreadedEngine
from tests.support.bundles import ANSWER, NOW, Gateway

KEY = "ag-paper"
Step = Callable[["Paper", str], Script]


def epoch_over(
    gateway: Gateway, *, forge: int | None = None
) -> tuple[EpochEvidence, list[BundledReceipt]]:
    """The epoch that covers everything so far, and every receipt with its proof.

    At the index `forge` the log has something else than the receipt that was given out.
    """
    items = [exchanged.item for exchanged in gateway.exchanged]
    leaves = [leaf_hash(b"\x00" + gateway.evidence.statement.digest.value)]
    leaves += [leaf_hash(b"\x01" + item.receipt.digest.value) for item in items]
    if forge is not None:
        leaves[forge] = leaf_hash(b"\x01" + Digest.of(b"another receipt").value)
    root = root_hash(leaves)
    checkpoint = Checkpoint(origin=gateway.origin, size=len(leaves), root=root)
    note = sign_note(checkpoint.text, gateway.origin, gateway.log_key)
    grants = b'["' + Digest.of(b"grant").hex.encode() + b'"]'
    statement = EpochStatement(
        bootseed=gateway.bootseed,
        boot_quote_digest=gateway.quote_digest,
        keyset_digest=gateway.keyset.digest,
        epoch=0,
        size=len(leaves),
        root=Digest(root),
        checkpoint_digest=Digest.of(checkpoint.text.encode()),
        prev_quote_digest=gateway.quote_digest,
        grants_digest=Digest.of(grants),
        admitted=len(items),
        completed=len(items),
        in_flight=0,
        unauthenticated=0,
        refused_unreceipted=0,
        time_claimed=NOW,
    )
    event = KeyEvent(bootseed=gateway.bootseed, keyset_digest=gateway.keyset.digest, n=1)
    evidence = EpochEvidence(
        statement=statement,
        quote=gateway.quote(statement.report_data, [event.digest]),
        checkpoint=note,
        collateral=gateway.evidence.collateral,
    )
    proofs = [
        render(
            TlogProof(
                extra=None,
                index=place,
                path=tuple(inclusion_path(place, leaves)),
                note=note,
            )
        )
        for place in range(1, len(leaves))
    ]
    return evidence, [replace(item, proof=proof) for item, proof in zip(items, proofs, strict=True)]


@dataclass
class Paper:
    """`steps` are what the next fetches of receipts get; after them every receipt is anchored.

    `asked` keeps the requests for receipts, `fetched` their answers' states.
    """

    gateway: Gateway = field(default_factory=lambda: Gateway(tls=()))
    steps: list[Step] = field(default_factory=list)
    asked: list[EngineRequest] = field(default_factory=list)

    def play(self, request: EngineRequest) -> Script:
        if request.target == "/v1/attestation?format=bundle":
            return bundle_script(self.gateway.bundle(receipts=[]))
        if request.method == "POST":
            return self._answer(request)
        path, _, query = request.target.partition("?")
        assert query == "wait=anchored&format=bundle"
        self.asked.append(request)
        step = self.steps.pop(0) if self.steps else anchored
        return step(self, path.removeprefix("/v1/receipts/"))

    def _answer(self, request: EngineRequest) -> Script:
        exchanged = self.gateway.plain(
            request=request.body, nonce=request.header("x-receipt-nonce"), inline=True
        )
        openings = exchanged.item.openings
        assert openings is not None
        return Script(
            writes=(ANSWER,),
            close=Close.LENGTH,
            content_type=JSON,
            headers=(
                ("x-receipt-id", exchanged.jti),
                ("x-receipt", exchanged.item.receipt.token),
                ("x-receipt-openings", openings.encode_header()),
            ),
        )

    def item(self, jti: str) -> BundledReceipt:
        """The receipt as it was sealed."""
        return next(one.item for one in self.gateway.exchanged if one.jti == jti)

    def part(self, jti: str) -> tuple[EpochEvidence, BundledReceipt]:
        """The receipt with its proof, and the epoch that anchors it."""
        epoch, items = epoch_over(self.gateway)
        return epoch, next(item for item in items if item.jti == jti)

    def trust(self, log: str = "require_anchored = true") -> Trust:
        return Trust(
            policy=self.gateway.policy(log=log),
            anchors=(self.gateway.anchor,),
            gate=AttestationResult.require_accepted_or_unsafe_simulated,
        )

    def session(self, url: str, log: str = "require_anchored = true") -> Session:
        return Session.connect(url, self.trust(log), clock=lambda: NOW + 60)


def bundle_script(bundle: Bundle, state: str = "anchored", **changes: object) -> Script:
    script = Script(
        writes=(bundle.encode(),),
        close=Close.LENGTH,
        content_type=MEDIA_TYPE,
        headers=(("x-receipt-state", state),),
    )
    return replace(script, **changes)  # type: ignore[arg-type]


def error_script(status: int, **headers: str) -> Script:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Script(
        writes=(b"{}",), close=Close.LENGTH, content_type=JSON, status=status, headers=named
    )


def anchored(paper: Paper, jti: str) -> Script:
    epoch, item = paper.part(jti)
    return bundle_script(assembled(paper, item, epoch))


def sealed(paper: Paper, jti: str) -> Script:
    script = bundle_script(assembled(paper, paper.item(jti)), "sealed")
    return replace(script, headers=(*script.headers, ("retry-after", "0")))


def final(paper: Paper, jti: str) -> Script:
    return bundle_script(assembled(paper, paper.item(jti)), "unanchored-final")


def dropped(_paper: Paper, _jti: str) -> Script:
    return Script(close=Close.DROP)


def assembled(paper: Paper, item: BundledReceipt, *epochs: EpochEvidence) -> Bundle:
    """What a gateway answers about one receipt."""
    return make_bundle(
        boots=[paper.gateway.evidence],
        collateral=[paper.gateway.machine.collateral()],
        epochs=epochs,
        receipts=[item],
    )


@contextlib.contextmanager
def listening(paper: Paper) -> Iterator[str]:
    """Serve `paper`; gives its address."""
    with ThreadedEngine(paper.play) as engine:
        yield engine.address
