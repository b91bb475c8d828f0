"""How long receipts and logs are kept: whole boot folders, and old segments of the running boot.

What is deleted is deleted whole: a boot folder first gets another name, so that no crash leaves
a part of it that could be taken for damage.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from gateway.notary.log.catchup import boot_names
from gateway.notary.log.folder import EXPIRED, SEGMENTS

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.notary.files import FileLayer
    from gateway.notary.log.index import ReceiptIndex
    from gateway.notary.log.store import LogStore

DAY_SECONDS = 86_400


def expire_boots(
    layer: FileLayer, data_dir: Path, *, before: float, keep: Collection[str]
) -> list[str]:
    """Delete the folders of ended boots whose last segment changed before `before` (unix s).

    `keep` names the running boot, and the one that it follows: the chain must not lose its end.
    Finishes what an interrupted call began.  Returns the names of the boots that are gone;
    raises OSError.
    """
    expired = [
        name
        for name in boot_names(layer, data_dir)
        if name not in keep and _last_change(layer, data_dir / name) < before
    ]
    for name in expired:
        layer.rename(data_dir / name, data_dir / f".{name}.expired")
    if expired:
        layer.sync_folder(data_dir)
    for name in layer.list_folder(data_dir):
        if EXPIRED.fullmatch(name):
            _remove_tree(layer, data_dir / name)
    return expired


def retire(
    layer: FileLayer,
    data_dir: Path,
    *,
    before: float,
    store: LogStore,
    covered: int,
    index: ReceiptIndex,
    follows: Collection[str] = (),
) -> tuple[list[str], list[int]]:
    """Delete what was last changed before `before` (unix s): ended boots, then old segments.

    Of the running boot (`store`) only segments go whose leaves are all below `covered`, the size
    its static files show: their hashes stay there.  `follows` names the boot before this one.
    Returns the boots and the segment numbers that are gone.  Blocks; raises OSError.
    """
    running = store.folder.name
    boots = expire_boots(layer, data_dir, before=before, keep={running, *follows})
    for name in boots:
        index.forget_boot(name)
    segments = store.retire(covered, before)
    if segments:
        index.forget_segments(running, segments[-1] + 1)
    return boots, segments


def _last_change(layer: FileLayer, folder: Path) -> float:
    changes = [layer.state(folder).changed]
    try:
        segments = folder / SEGMENTS
        changes += [layer.state(segments / name).changed for name in layer.list_folder(segments)]
    except (FileNotFoundError, NotADirectoryError):
        pass  # a boot that never came that far
    return max(changes)


def _remove_tree(layer: FileLayer, folder: Path) -> None:
    for name in layer.list_folder(folder):
        path = folder / name
        if layer.state(path).is_folder:
            _remove_tree(layer, path)
        else:
            layer.remove(path)
    layer.remove_folder(folder)
