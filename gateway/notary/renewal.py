"""A running boot whose endorsements are renewed: in bundles, on the disk, in every worker."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from gateway.notary.log.folder import BOOT_FILE, store_file
from gateway.notary.parts import boot_files, endorsed
from gateway.notary.quotes.quoter import in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.encoding.digest import Digest
    from gateway.notary.endorser import Endorser
    from gateway.notary.files import FileLayer
    from gateway.notary.interface import Boot
    from gateway.notary.parts import NotaryParts

LOOK_SECONDS = 60.0


class Renewal:
    """Holds the boot as it is shown; looks for newer endorsements every minute.

    Renewing changes no signed byte: evidence names its endorsements by digest, outside of what
    is signed and quoted.  Nothing waits for a look: a file system that hangs holds up no epoch,
    and only the next look.
    """

    def __init__(self, parts: NotaryParts, boot: Boot, endorser: Endorser, folder: Path) -> None:
        self._parts = parts
        self._endorser = endorser
        self._folder = folder
        self._task: asyncio.Task[None] | None = None
        self.boot = boot
        parts.metrics.watch_endorsements(endorser.seconds_left)

    def start(self) -> None:
        """Look every minute from now on, if there is a store to look into."""
        if self._parts.endorsements is not None:
            self._task = asyncio.create_task(self._look_on())

    def close(self) -> None:
        """Look no more by itself."""
        if self._task is not None:
            self._task.cancel()

    def endorsed_by(self) -> Digest | None:
        """Return the digest of the endorsements that quotes are shown with."""
        return self.boot.evidence.collateral

    async def _look_on(self) -> None:
        while True:
            await self._parts.clock.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Show what is to be chosen now, from now on; for one caller at a time."""
        chosen = await in_thread(self._endorser.choose)
        if chosen is None or chosen.digest == self.boot.evidence.collateral:
            return
        boot = endorsed(self.boot, chosen)
        try:
            await asyncio.to_thread(_keep, self._parts.layer, self._folder, boot)
        except OSError as error:
            # Bundles from now on have the newer set; what the folder shows is out of date only.
            reason = errno.errorcode.get(error.errno or 0, "EIO").lower()
            self._parts.emit("endorsements.unkept", reason=reason)
        self.boot = boot
        self._parts.on_renewal()


def _keep(layer: FileLayer, folder: Path, boot: Boot) -> None:
    """Put the boot's evidence into its folder again, whole at every moment."""
    partial = folder / f".{BOOT_FILE}.{boot.evidence.statement.digest.hex[:8]}"
    if layer.list_folder(folder).count(partial.name):
        layer.remove(partial)
    store_file(layer, partial, boot_files(boot)[BOOT_FILE])
    layer.rename(partial, folder / BOOT_FILE)
    layer.sync_folder(folder)
