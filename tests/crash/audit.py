"""What callers and watchers saw, held against what the gateway kept: nothing lost, nothing forked.

A1  every receipt a caller was handed is in the log at its index, byte for byte
A2  it is retrievable by its key, byte for byte, in state sealed, anchored or unanchored-final
A3  no receipt id, index or admission number is used twice
A4  one log never shows two roots for one size: checkpoints served, in proofs, in the files
A5  what was shown signed is still there: the log is never shorter than a checkpoint anybody saw
A6  every boot names the last boot before it that served, by a checkpoint of that boot, not older
    than any that was shown; no two boots name one
A7  the files of an ended boot never change
A8  who saw a whole answer has a receipt; while a boot lives, whoever saw an id has exactly one
A9  in every epoch admitted = completed + in flight, completed = receipts below its size; a boot
    that lives ends up with admitted = receipts once nothing runs; a drained boot with its last
    epoch covering every receipt
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from attestation.bundle import parse_bundle
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.merkle.tlog_proof import parse_tlog_proof, verify_tlog_proof
from attestation.merkle.tree import leaf_hash
from attestation.receipt.claims import ReceiptClaims
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from attestation.statement import Keyset
from tests.crash.client import PATIENCE, get_json
from tests.crash.load import Sight
from tests.crash.outside import RECEIPT, Boot, read_boot, require

_AT_ONCE = 16
FINAL = ("sealed", "anchored", "unanchored-final")


@dataclass(slots=True, kw_only=True)
class View:
    """What the outside knows of one boot."""

    origin: str
    released: dict[str, tuple[str, str]] = field(default_factory=dict)  # id: token, key
    ids: dict[str, str] = field(default_factory=dict)  # id: key
    finished: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    roots: dict[int, bytes] = field(default_factory=dict)
    anchored: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> int:
        """The largest size that was shown signed."""
        return max(self.roots, default=0)

    def saw_root(self, size: int, root: bytes) -> None:
        known = self.roots.setdefault(size, root)
        require(known == root, "A4 one root for one size", f"{self.origin} at {size}")


@dataclass(slots=True, kw_only=True)
class World:
    """Everything seen since the first start, over all boots of one data folder."""

    data: Path
    views: dict[str, View] = field(default_factory=dict)
    predecessors: dict[str, str] = field(default_factory=dict)  # origin: origin before it
    _keysets: dict[str, Keyset] = field(default_factory=dict)
    _places: set[tuple[str, str, object]] = field(default_factory=set)

    def boot(self, origin: str) -> View:
        return self.views.setdefault(origin, View(origin=origin))

    def note(self, text: str) -> None:
        """A checkpoint was shown."""
        checkpoint = parse_checkpoint(parse_note(text).text)
        self.boot(checkpoint.origin).saw_root(checkpoint.size, checkpoint.root)

    def sight(self, origin: str, sight: Sight) -> None:
        """A request ended, as its caller saw it."""
        jti, token = sight.answer.receipt_id, sight.answer.token
        view = self.boot(origin)
        if jti is None:
            return
        view.ids[jti] = sight.key
        if sight.finished:
            view.finished.add(jti)
        if token is not None:
            self._release(view, token, sight.key, jti)

    def _release(self, view: View, token: str, key: str, jti: str) -> None:
        claims = parse_receipt(token).claims
        require(claims.jti == jti, "a receipt is of its request", jti)
        require(claims.log.origin == view.origin, "a receipt is of its boot", claims.log.origin)
        known = view.released.setdefault(jti, (token, key))
        require(known[0] == token, "A1 one receipt for one id", jti)
        self._place(claims)

    def _place(self, claims: ReceiptClaims) -> None:
        """Index and admission number belong to one receipt id."""
        for kind, number in (("i", claims.log.index), ("adm", claims.log.admission)):
            taken = (claims.log.origin, kind, number)
            owned = (claims.log.origin, f"{kind} of {claims.jti}", number)
            require(taken not in self._places or owned in self._places, "A3 used once", str(taken))
            self._places |= {taken, owned}

    # -- while a boot lives -----------------------------------------------------------------

    async def audit_living(self, port: int, origin: str, *, sample: int) -> None:
        """A2 and A8 for a boot that serves: every new id, and `sample` of those asked before."""
        view = self.boot(origin)
        wanted = [jti for jti in view.ids if jti not in view.asked]
        wanted += list(view.asked)[:sample]
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            await asyncio.gather(*(self._fetch(port, view, jti, view.ids[jti]) for jti in part))
        view.asked.update(wanted)

    async def audit_earlier(self, port: int, origin: str, *, sample: int) -> None:
        """A2 for receipts of a boot that has ended."""
        view = self.boot(origin)
        wanted = list(view.released.items())[-sample:]
        asking = (self._fetch(port, view, jti, key) for jti, (_, key) in wanted)
        for (jti, _), state in zip(wanted, await asyncio.gather(*asking), strict=True):
            require(state in FINAL[1:], "A2 a receipt of an ended boot is final", f"{jti} {state}")

    async def _fetch(self, port: int, view: View, jti: str, key: str) -> str:
        async with asyncio.timeout(PATIENCE):
            while True:
                status, document = await get_json(port, f"/v1/receipts/{jti}", key)
                if status == 200:
                    break
                later = status in (0, 202, 503)  # running, or the index is not complete yet
                require(later, "A2 retrievable", f"{jti}: {status} {document}")
                await asyncio.sleep(0.02)
        token, state = str(document["receipt"]), str(document["state"])
        require(state in FINAL, "A2 a receipt has a state", f"{jti}: {state}")
        require(jti not in view.anchored or state == "anchored", "A2 anchored for ever", jti)
        self._release(view, token, key, jti)
        if state == "anchored":
            view.anchored.add(jti)
            self._proof(view, jti, token, str(document["proof"]))
        return state

    def _proof(self, view: View, jti: str, token: str, text: str) -> None:
        receipt, proof = parse_receipt(token), parse_tlog_proof(text)
        require(proof.index == receipt.claims.log.index, "A1 the proof is of its index", jti)
        digest = hashlib.sha256(token.rpartition(".")[0].encode()).digest()
        logged = verify_tlog_proof(
            proof,
            leaf_hash=leaf_hash(bytes([RECEIPT]) + digest),
            vkeys=[self._keyset(view.origin).log_key],
            origin=view.origin,
        )
        view.saw_root(logged.checkpoint.size, logged.checkpoint.root)

    def _keyset(self, origin: str) -> Keyset:
        if origin not in self._keysets:
            path = self.data / origin.rpartition("/")[2] / "boot.json"
            self._keysets[origin] = parse_bundle(path.read_bytes()).boots[0].keyset
        return self._keysets[origin]

    # -- once a boot has ended --------------------------------------------------------------

    def audit_ended(self, origin: str, *, drained: bool) -> Boot | None:
        """A1, A3-A6, A8, A9 against the files that a boot left; remembers them for A7."""
        view = self.boot(origin)
        folder = self.data / origin.rpartition("/")[2]
        files = _contents(folder)
        view.files = _digests(files)
        boot = read_boot(files)
        if boot is None:
            nothing = not (view.released or view.finished or view.roots)
            require(nothing, "A1 a boot that served left its files", origin)
            return None
        require(boot.whole or not drained, "a drained boot ends whole", origin)
        self._receipts(view, boot)
        self._roots(view, boot, files)
        _epochs(boot, drained=drained)
        self._predecessor(boot)
        return boot

    def _receipts(self, view: View, boot: Boot) -> None:
        for index, token in boot.receipts.items():
            receipt = parse_receipt(token)
            verify_receipt_signature(receipt, boot.evidence.keyset.receipt_key)
            require(receipt.claims.log.index == index, "A1 a receipt knows its index", str(index))
            self._place(receipt.claims)
        for jti, (token, _) in view.released.items():
            index = parse_receipt(token).claims.log.index
            require(boot.receipts.get(index) == token, "A1 released is kept", f"{jti} at {index}")
            require(boot.ids.get(jti) == index, "A1 its record has its id", jti)
        for jti in view.finished:
            require(jti in boot.ids, "A8 a whole answer has its receipt", jti)

    def _roots(self, view: View, boot: Boot, files: dict[str, bytes]) -> None:
        for checkpoint, _, _ in boot.notes:
            view.saw_root(checkpoint.size, checkpoint.root)
        if "log/checkpoint" in files:
            note = parse_note(files["log/checkpoint"])
            verify_note(note, [boot.vkey])
            checkpoint = parse_checkpoint(note.text)
            view.saw_root(checkpoint.size, checkpoint.root)
        require(len(boot.entries) >= view.shown, "A5 never shorter than shown", view.origin)
        for size, root in view.roots.items():
            require(boot.root(size) == root, "A4 a shown root is the log's", f"size {size}")

    def _predecessor(self, boot: Boot) -> None:
        """A6; a boot without a checkpoint never served, and nobody has to name it."""
        prev = boot.evidence.statement.prev
        before = ""
        if prev is not None:
            checkpoint = parse_checkpoint(parse_note(prev.checkpoint).text)
            before = checkpoint.origin
            view = self.boot(before)
            require(checkpoint.size >= view.shown, "A6 prev is not older than shown", before)
            view.saw_root(checkpoint.size, checkpoint.root)
        served = [origin for origin in self.predecessors if origin != boot.origin]
        expected = served[-1] if served else ""
        require(before == expected, "A6 the chain has no gap", f"{boot.origin}: {before!r}")
        if boot.notes:
            self.predecessors[boot.origin] = before

    def audit_stillborn(self) -> None:
        """A boot that was killed while it started: whatever it left is the start of a log."""
        name = next(iter(self.views)).rpartition("/")[0]
        for folder in sorted(self.data.iterdir()):
            origin = f"{name}/{folder.name}"
            if folder.is_dir() and origin not in self.views:
                self.audit_ended(origin, drained=False)

    def audit_unchanged(self) -> None:
        """A7 for every ended boot, by content."""
        for origin, view in self.views.items():
            if view.files:
                now = _digests(_contents(self.data / origin.rpartition("/")[2]))
                require(now == view.files, "A7 an ended boot never changes", origin)


def _epochs(boot: Boot, *, drained: bool) -> None:
    kinds = [entry[0] for entry in boot.entries]
    for number, epoch in enumerate(boot.epochs):
        require(epoch.epoch == number, "A9 epochs are numbered", f"{epoch.epoch}")
        require(
            epoch.admitted == epoch.completed + epoch.in_flight, "A9 counters add up", str(epoch)
        )
        below = kinds[: epoch.size].count(RECEIPT)
        require(epoch.completed == below, "A9 completed is what the log has", f"{below} {epoch}")
        require(epoch.root.value == boot.root(epoch.size), "A4 an epoch's root", str(epoch.size))
    if drained and boot.receipts:
        last = boot.epochs[-1] if boot.epochs else None
        covered = last is not None and last.completed == len(boot.receipts) == last.admitted
        require(covered, "A9 a drained boot ends in an epoch over everything", str(last))


def _contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
