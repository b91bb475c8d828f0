"""How a boot comes into being: data folder, earlier boots, quote, log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError
from gateway.notary.boot import BootSecrets, start_boot
from gateway.notary.endorser import Endorser
from gateway.notary.entries import LedgerBoot
from gateway.notary.history import History, load_history
from gateway.notary.log.export import StaticLog, tile_loader
from gateway.notary.log.folder import INDEX_FILE, LOG, open_data_dir
from gateway.notary.log.index import ReceiptIndex
from gateway.notary.log.store import LogStore
from gateway.notary.log.tree import TileTree
from gateway.notary.parts import boot_files, public_boot
from gateway.notary.quotes.quoter import in_thread

if TYPE_CHECKING:
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.quote import Quote
    from gateway.notary.boot import BootPlan, StartedBoot
    from gateway.notary.files import FileLayer
    from gateway.notary.interface import Boot
    from gateway.notary.parts import NotaryParts


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A quoted boot and its log, of which nothing is written yet but the evidence.

    `endorser` knows of newer endorsements; `static` is the log as files; `release` gives the data
    folder up.
    """

    boot: Boot
    endorser: Endorser
    ledger_boot: LedgerBoot
    history: History
    store: LogStore
    tree: TileTree
    static: StaticLog
    index: ReceiptIndex
    release: Callable[[], None]

    @property
    def quote(self) -> Quote:
        """The boot quote."""
        return self.ledger_boot.started.quote


async def open_boot(parts: NotaryParts) -> Started:
    """Start a boot as far as its evidence is on the disk.

    1. the data folder is this process's alone
    2. a survey of earlier boots: which one this boot follows
    3. secrets, RTMR3 event, boot statement and its quote
    4. the endorsements that the quote is shown with
    5. the boot's folder with its evidence and an empty log

    Raises `UnavailableError`; the data folder is given up then.
    """
    lock = await asyncio.to_thread(open_data_dir, parts.layer, parts.data_dir)
    try:
        index_path = parts.data_dir / INDEX_FILE
        history = await asyncio.to_thread(load_history, parts.layer, parts.data_dir, index_path)
        drawn = BootSecrets.draw()
        quoted = await _quoted(parts, replace(parts.plan, prev=history.survey.prev), drawn)
        if parts.plan.model is not None and quoted.model is None:
            parts.emit("model.unmeasured", digest=parts.plan.model.digest.hex)
        endorser, chosen = await _endorsed(parts, quoted.quote)
        boot = public_boot(parts, quoted, chosen, drawn.cache_salt_key)
        store = await asyncio.to_thread(
            LogStore.create,
            parts.layer,
            parts.data_dir,
            boot_files(boot),
            drawn.bootseed,
            parts.limits.segment_bytes,
        )
    except BaseException:
        # A cancelled start as well must not keep the data folder locked.
        _give_up(parts.layer, lock)
        raise
    tree = TileTree(tile_loader(parts.layer, store.folder / LOG))
    return Started(
        boot=boot,
        endorser=endorser,
        ledger_boot=LedgerBoot(
            issuer=parts.plan.name, provider=parts.provider.name, started=quoted, drawn=drawn
        ),
        history=history,
        store=store,
        tree=tree,
        static=StaticLog(parts.layer, store.folder / LOG, tree),
        index=ReceiptIndex(
            parts.layer,
            parts.data_dir,
            index_path,
            store.folder.name,
            lambda code: parts.emit("index.trouble", reason=code),
        ),
        release=lambda: _give_up(parts.layer, lock),
    )


def _give_up(layer: FileLayer, lock: int) -> None:
    # Whatever closing says, Linux has given the descriptor, and with it the lock, up.
    with suppress(OSError):
        layer.close(lock)


async def _quoted(parts: NotaryParts, plan: BootPlan, drawn: BootSecrets) -> StartedBoot:
    call = in_thread(lambda: start_boot(parts.provider, plan, drawn))
    if not await parts.clock.reaches(call, parts.limits.quote_timeout):
        raise UnavailableError(
            "the platform gave no boot quote in time",
            code="quote_timeout",
            expected=f"a quote within {parts.limits.quote_timeout:g} s",
            hint="check the quoting service, or raise evidence.quote_timeout",
        )
    return call.result()


async def _endorsed(parts: NotaryParts, quote: Quote) -> tuple[Endorser, Collateral | None]:
    """Choose the first endorsements; whatever reads them may hang as any file system may."""

    def look() -> tuple[Endorser, Collateral | None]:
        endorser = Endorser(parts, quote)
        return endorser, endorser.choose()

    call = in_thread(look)
    if not await parts.clock.reaches(call, parts.limits.store_timeout):
        store = parts.endorsements.folder if parts.endorsements else None
        raise UnavailableError(
            "the endorsements to start with could not be read in time",
            code="endorsements_timeout",
            expected=f"the sets in {store or 'what the quote provider keeps'} within "
            f"{parts.limits.store_timeout:g} s",
            hint="does the file system answer? unset evidence.endorsements to start without",
        )
    return call.result()
