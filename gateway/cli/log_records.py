"""What the boots in a data folder recorded, for `attested log verify`: the log is made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli.log_folder import Records
from attestation.errors import EvidenceError, UnavailableError
from gateway.notary.files import FileLayer
from gateway.notary.log.folder import SEGMENTS
from gateway.notary.log.survey import Survey, examine, survey
from gateway.notary.log.walk import BootStatus

if TYPE_CHECKING:
    from pathlib import Path

_AS_WRITTEN = frozenset({BootStatus.WHOLE, BootStatus.TORN, BootStatus.UNBORN})


def read_records(folder: Path) -> list[Records]:
    """Return what every boot's records in a data folder are, or those of one boot's folder.

    A boot that was taken back to an older state, and one whose place in the chain two claim, are
    seen where the boots beside it are.  Nothing for folders of other kinds.
    Raises `UnavailableError` if the disk does not let them be read.
    """
    try:
        if (folder / SEGMENTS).is_dir():
            known = survey(FileLayer(), folder.parent)
            return (
                [_examined(folder.parent, folder.name, known)] if folder.name in known.boots else []
            )
        if any((child / SEGMENTS).is_dir() for child in folder.glob("*")):
            return _all_examined(folder, survey(FileLayer(), folder))
    except OSError as error:
        raise UnavailableError(
            "the boots' records cannot be read",
            code="file",
            observed=error.strerror or "an I/O error",
        ) from error
    return []


def _all_examined(data_dir: Path, known: Survey) -> list[Records]:
    found = [_examined(data_dir, boot, known) for boot in sorted(known.boots)]
    return found + [
        Records(
            boot=", ".join(fork.boots),
            status="forked",
            reason=f"each says that it follows {fork.after}" if fork.after else "none is followed",
            leaves=None,
            exit_code=EvidenceError.exit_code,
        )
        for fork in known.forks
    ]


def _examined(data_dir: Path, boot: str, known: Survey) -> Records:
    found = examine(FileLayer(), data_dir, boot, known)
    bad = found.status not in _AS_WRITTEN
    return Records(
        boot=boot,
        status=str(found.status),
        reason=found.reason,
        leaves=found.leaves,
        exit_code=EvidenceError.exit_code if bad else 0,
    )
