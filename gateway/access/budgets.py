"""Token budgets on disk: one small file, replaced whole, that outlives the gateway.

The table of `quota_table` is in memory and shared by all workers; a change of a budget is on
disk a second later at most.  Whoever saves holds a lock from reading the table to replacing the
file, so that an older state never replaces a newer one.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from attestation.cli.durable import write_privately
from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits, parse_json
from attestation.errors import MalformedError, UnavailableError
from gateway.access.locking import locked
from gateway.access.quota_table import FOREVER, Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from gateway.access.quota_table import QuotaTable
    from gateway.telemetry.edge import Snapshot

SCHEMA: Final = "attested-gateway/budgets/v1"
FILE_NAME: Final = "budgets.json"
UNKEPT: Final = "budgets_unkept"
SAVE_SECONDS: Final = 1.0
_MAX_BYTES: Final = 32 << 20
_MAX_RECORDS: Final = 65_536
_DAY_SECONDS: Final = 86_400
_DRAWS: Final = 8
_LIMITS: Final = JsonLimits(max_bytes=_MAX_BYTES, max_depth=4, max_members=4 * _MAX_RECORDS + 8)


class BudgetFile:
    """The file at `path` and the table it keeps; `wall` gives Unix seconds."""

    def __init__(self, path: Path, table: QuotaTable, wall: Callable[[], float]) -> None:
        self._path = path
        self._table = table
        self._wall = wall
        self._saved = table.changes

    def load(self) -> None:
        """Take what was spent into the table; no file means that nothing was.

        Raises `UnavailableError` if it cannot be read and `MalformedError` if it is not what
        `save` writes: budgets must not begin anew because a file was damaged.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnavailableError(
                f"the token budgets in {self._path} cannot be read",
                code="budgets_file",
                observed=error.strerror or "an I/O error",
                hint="it belongs to the user of the gateway",
            ) from error
        try:
            self._take([_entry(item) for item in _parse(data)])
        except MalformedError as error:
            raise MalformedError(
                f"the token budgets in {self._path} cannot be used: {error.message}",
                code=error.code,
                expected=error.expected,
                observed=error.observed,
                hint="take the file from a backup, or remove it: then every budget begins anew",
            ) from error
        self._saved = self._table.changes

    def require_folder(self) -> None:
        """Raise `UnavailableError` unless the folder is there: nothing makes it later."""
        if not self._path.parent.is_dir():
            raise UnavailableError(
                f"the token budgets cannot be kept in {self._path}",
                code="budgets_file",
                observed="a folder that is not there",
                hint="make the folder, the gateway user's own, or change access.budgets_file",
            )

    def save(self) -> bool:
        """Put what was spent on disk if it changed; true if it did.

        Raises `OSError`; what was on disk before is then still there.
        """
        changes = self._table.changes
        if changes == self._saved:
            return False
        with locked(self._path):
            changes = self._table.changes
            write_privately(self._path, self._document())
        self._saved = changes
        return True

    def _take(self, entries: list[tuple[Digest, Usage]]) -> None:
        # A set of the table may have no room for one more by bad luck alone.
        for _ in range(_DRAWS):
            if all(self._table.write(sub, usage, self._today()) for sub, usage in entries):
                break
            self._table.begin_anew()
        else:
            raise MalformedError("it holds more budgets than there is room for", code="size")
        for sub, _ in entries:
            self._table.budget_changed(sub)

    def _document(self) -> bytes:
        spent = [
            {
                "day": None if usage.day == FOREVER else usage.day,
                "spent": usage.spent,
                "sub": Digest(sub).base64url,
            }
            for sub, usage in self._table.budgets(self._today())
        ]
        document = {"budgets": spent, "schema": SCHEMA}
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"

    def _today(self) -> int:
        return self._table.latest(int(self._wall())) // _DAY_SECONDS


def _entry(item: Any) -> tuple[Digest, Usage]:  # noqa: ANN401 - JSON of any shape
    members = Members(item, "a budget")
    sub = members.digest_base64url("sub")
    usage = Usage(
        spent=members.integer("spent", maximum=1 << 62),
        day=FOREVER if members.is_null("day") else members.integer("day", maximum=1 << 32),
    )
    members.close()
    return sub, usage


class BudgetKeeper:
    """Saves a budget file every second while a gateway runs, and once more at its end.

    `tell` is called when saving begins to fail, with what went wrong, and with None when it works
    again; meanwhile it is tried every second, and `code` is `UNKEPT`, "" otherwise.
    """

    def __init__(self, file: BudgetFile, tell: Callable[[OSError | None], None]) -> None:
        self._file = file
        self._tell = tell
        self.code = ""
        self._task: asyncio.Task[None] | None = None

    def snapshot(self) -> Snapshot:
        """Return what metrics show of it."""
        return {"attested_budgets_unkept": [[[], int(self.code == UNKEPT)]]}

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Save what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._save()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            await self._save()

    async def _save(self) -> None:
        try:
            await asyncio.to_thread(self._file.save)
        except OSError as error:
            self._note(UNKEPT, error)
        else:
            self._note("", None)

    def _note(self, code: str, error: OSError | None) -> None:
        if code != self.code:
            self.code = code
            self._tell(error)


def _parse(data: bytes) -> list[Any]:
    members = Members(parse_json(data, _LIMITS), "the file of token budgets")
    members.text("schema", choices=(SCHEMA,))
    items = members.array("budgets", max_items=_MAX_RECORDS)
    members.close()
    return items
