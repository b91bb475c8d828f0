"""The next boot over what a power loss left: it starts, knows where it comes from, finds all."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from attestation.encoding.digest import Digest
from attestation.errors import AttestationError
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.statement import PreviousBoot
from gateway.attester.base import open_provider
from gateway.notary.interface import ReceiptState
from gateway.notary.local import LocalNotary
from gateway.notary.log.examination import SurveyedBoot
from gateway.notary.log.survey import examine, survey
from gateway.notary.log.walk import BootStatus
from tests.crash.life import parts_of
from tests.crash.memory import MemoryLayer
from tests.crash.outside import Boot, Violation, require
from tests.crash.promises import Said, folders_of, previous_of
from tests.crash.states import Image
from tests.support.notaries import sealed

Read = Mapping[str, Boot | None]
Told = Mapping[str, Said]
_FINDING_SECONDS = 60.0
_AFTER_A_CRASH = (BootStatus.WHOLE, BootStatus.TORN, BootStatus.UNBORN)


def restart(base: Path, image: Image, said: Told, read: Read, *, index: Path | None = None) -> None:
    """P6, P8 and P9 for one disk; `index` holds an index as it was left, none: it is lost.

    Raises `Violation`.
    """
    folder = Path(tempfile.mkdtemp(dir=base))
    try:
        (folder / "data").mkdir()
        for path in index.glob("index.*") if index is not None else ():
            shutil.copy(path, folder / "data")
        layer = MemoryLayer(folder, image)
        asyncio.run(_restart(folder, layer, said, read))
        after = folders_of(layer.image())
        for name, files in folders_of(image).items():
            require(after.get(name) == files, "P6 an ended boot never changes", name)
    finally:
        shutil.rmtree(folder)


async def _restart(folder: Path, layer: MemoryLayer, said: Told, read: Read) -> None:
    parts = parts_of(folder, layer, open_provider("simulated:"))
    try:
        notary = await LocalNotary.start(parts)
    except AttestationError as error:
        raise Violation("P8 the next boot starts", repr(error)) from error
    try:
        check_predecessor(notary.boot.evidence.statement.prev, said, read)
        await sealed(notary)
        for told in said.values():
            for receipt in told.receipts:
                await _find(notary, told, receipt.jti, receipt.token, Digest(receipt.sub))
    finally:
        await notary.close()


def survey_disk(base: Path, image: Image, said: Told, read: Read) -> None:
    """P7 and P8 for one disk as a start sees it, without one.  Raises `Violation`."""
    layer = MemoryLayer(base, image)
    if "data" not in image.folders:
        return  # what a start makes first; that everything promised is there, P1 has said
    known = survey(layer, base / "data")
    require(not known.forks and not known.strangers, "P7 no fork, no stranger", str(known.forks))
    for boot in known.boots.values():
        _check_status(boot, said)
    check_predecessor(known.prev, said, read)


def examine_disk(base: Path, image: Image, said: Told) -> None:
    """P7 for one disk, every boot read whole.  Raises `Violation`."""
    layer = MemoryLayer(base, image)
    if "data" in image.folders:
        known = survey(layer, base / "data")
        for name in known.boots:
            _check_status(examine(layer, base / "data", name, known), said)


def _check_status(boot: SurveyedBoot, said: Told) -> None:
    seen = f"{boot.name} {boot.status}: {boot.reason}"
    told = said.get(boot.name, Said())
    require(boot.status in _AFTER_A_CRASH, "P7 what a crash leaves", seen)
    unborn = boot.status is BootStatus.UNBORN
    require(not (unborn and told.ready), "P7 a started boot was born", seen)
    require(boot.status is BootStatus.WHOLE or not told.closed, "P7 an ended boot is whole", seen)


def check_predecessor(prev: PreviousBoot | None, said: Told, read: Read) -> None:
    """P8: the newest boot that had started is named, or a newer one that nearly had."""
    started = [folder for folder, told in said.items() if told.ready]
    if prev is None:
        require(not started, "P8 a boot that had started has a successor", str(started))
        return
    note = parse_note(prev.checkpoint)
    checkpoint = parse_checkpoint(note.text)
    name = checkpoint.origin.rpartition("/")[2]
    boot = read.get(name)
    if boot is None:
        raise Violation("P8 the predecessor has evidence", name)
    verify_note(note, [boot.vkey])
    require(prev.quote_digest.value == boot.quote_digest, "P8 by its boot quote", name)
    last = boot.notes[-1][0]
    require(checkpoint == last, "P8 by its last checkpoint", f"{checkpoint.size} {last.size}")
    if started and name != started[-1]:
        require(previous_of(boot) == started[-1], "P8 the last boot that had started", name)
    shown = said[name].shown if name in said else 0
    require(checkpoint.size >= shown, "P8 not older than what was shown", name)


async def _find(notary: LocalNotary, told: Said, jti: str, token: str, sub: Digest) -> None:
    async with asyncio.timeout(_FINDING_SECONDS):
        while True:
            try:
                found = await notary.find(jti, sub)
            except AttestationError as error:
                require(
                    error.code == "index_incomplete", "P9 a released receipt is found", str(error)
                )
                await asyncio.sleep(0.001)
                continue
            break
    require(found is not None, "P9 a released receipt is found", jti)
    assert found is not None
    require(found.token == token, "P9 byte for byte", f"{jti} {found.state} {found.token}")
    final = (ReceiptState.ANCHORED, ReceiptState.UNANCHORED_FINAL)
    require(found.state in final, "P9 in a final state", f"{jti} {found.state}")
    anchored = found.state is ReceiptState.ANCHORED
    require(anchored or jti not in told.anchored, "P9 anchored for ever", jti)
    other = await notary.find(jti, Digest.of(b"somebody else"))
    require(other is None, "P9 for its owner only", jti)
