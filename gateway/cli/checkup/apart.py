"""A notary apart: which of its two parts this user can look at, and the folder where they meet."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.errors import UsageError
from gateway.cli.checkup.finding import Subject
from gateway.notary.wire.socket import NOT_SHARED
from gateway.processes.users import require_two_users, uid_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.cli.checkup.finding import Finding
    from gateway.settings import NotarySettings, Settings

AREA = "service"
_USERS = Subject(id="service.users", area=AREA, title="users")
_FOLDER = Subject(id="service.notary_socket", area=AREA, title="notary's socket")
_DATA = Subject(id="service.data_dir", area=AREA, title="data folder")
_ROOT = 0


class Part(StrEnum):
    """Whose permissions something is a matter of."""

    NOTARY = "notary"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who looks: `uid`, and the parts that this user can look at.

    `keeps_data` says whether `data_dir` is to be this user's own.
    """

    uid: int
    parts: frozenset[Part] = frozenset(Part)
    keeps_data: bool = True

    def sees(self, part: Part) -> bool:
        """Whether this part can be looked at."""
        return part in self.parts


def viewer_of(settings: Settings | None, uid: int) -> Viewer:
    """Return what `uid` can look at: everything, unless there is a notary apart.

    Then it is the part of that user, of others none.  Root may look at both, but for `data_dir`.
    """
    if settings is None or not settings.notary.apart:
        return Viewer(uid=uid)
    notary, gateway = _uids(settings.notary)
    named = frozenset(
        part for part, user in zip(Part, (notary, gateway), strict=True) if user == uid
    )
    parts = named or (frozenset(Part) if uid == _ROOT else named)
    return Viewer(uid=uid, parts=parts, keeps_data=uid == notary)


def apart_findings(settings: Settings, viewer: Viewer) -> Iterator[Finding]:
    """Look at users and at the socket's folder; nothing unless there is a notary apart."""
    notary = settings.notary
    if not notary.apart:
        return
    yield _users(notary, viewer)
    yield _socket_folder(notary, viewer)
    if not viewer.keeps_data:
        yield _closed_data_dir(notary, viewer)


def unseen(subject: Subject, notary: NotarySettings, part: Part) -> Finding:
    """Say that only the other user can look at something."""
    user = notary.user if part is Part.NOTARY else notary.gateway_user
    return subject.warn(
        f"not looked at: only the {part.value}'s user has to reach it",
        f"run attested doctor as {user} too",
        looked=False,
    )


def _uids(notary: NotarySettings) -> tuple[int | None, int | None]:
    """Return the numbers of notary's and gateway's user; None for one who is not there."""
    found: list[int | None] = []
    for name in (notary.user, notary.gateway_user):
        try:
            found.append(uid_of(str(name)))
        except UsageError:
            found.append(None)
    return found[0], found[1]


def _users(notary: NotarySettings, viewer: Viewer) -> Finding:
    try:
        require_two_users(notary)
        numbers = [uid_of(str(name)) for name in (notary.user, notary.gateway_user)]
    except UsageError as error:
        return _USERS.refused(error)
    seen, todo = _as_whom(notary, viewer)
    return _USERS.warn(
        f"the notary's {notary.user} ({numbers[0]}), the gateway's {notary.gateway_user} "
        f"({numbers[1]}); this is {viewer.uid}{seen}",
        f"run attested doctor as {todo}",
        looked=False,
        parts=sorted(viewer.parts),
    )


def _as_whom(notary: NotarySettings, viewer: Viewer) -> tuple[str, str]:
    """Say what this user can look at, and who else is to look."""
    both = f"{notary.user}, and as {notary.gateway_user}"
    if not viewer.parts:
        return ", neither of them: nothing of theirs can be looked at", both
    if len(viewer.parts) > 1:
        return ", root: what root can reach, they may not", both
    if viewer.sees(Part.NOTARY):
        return ": only the notary's part can be looked at", f"{notary.gateway_user} too"
    return ": only the gateway's part can be looked at", f"{notary.user} too"


def _socket_folder(notary: NotarySettings, viewer: Viewer) -> Finding:
    """Say whether the notary can listen there, and the gateway come in."""
    path = Path(str(notary.socket))
    folder = path.parent
    owner, gateway = _uids(notary)
    make = f"install -d -m 0750 -o {notary.user} -g GROUP_OF_{notary.gateway_user} {folder}"
    try:
        state = folder.stat()
    except FileNotFoundError:
        todo = f"{make}; with systemd, RuntimeDirectory= of the notary's unit makes it"
        return _FOLDER.fail(f"its folder {folder} is not there: attested notary needs it", todo)
    except OSError as error:
        look = _FOLDER.fail if viewer.parts else _FOLDER.warn
        return look(
            f"{folder}: {error.strerror}",
            f"let both users through the folders above it: {folder.parent}",
        )
    if not stat.S_ISDIR(state.st_mode):
        return _FOLDER.fail(f"{folder} is no folder", "name another place as notary.socket")
    if owner is not None and state.st_uid != owner:
        return _FOLDER.fail(
            f"{folder} is of user {state.st_uid}, and not of the notary's, {notary.user}",
            f"chown {notary.user} {folder}",
        )
    mode = stat.S_IMODE(state.st_mode)
    if mode & NOT_SHARED or not mode & stat.S_IXGRP:
        return _FOLDER.fail(
            f"{folder} has mode {mode:04o}, and is to be open to its group, which may not write, "
            "and to nobody else",
            f"chmod 0750 {folder}",
        )
    return _group(notary, folder, state.st_gid, gateway)


def _group(notary: NotarySettings, folder: Path, group: int, gateway: int | None) -> Finding:
    shown = f"{folder} is {notary.user}'s, open to group {_group_name(group)}"
    member = None if gateway is None else _is_member(gateway, group)
    if member is None:
        return _FOLDER.warn(
            f"{shown}; whether {notary.gateway_user} is in it cannot be told here",
            "it has to be: the gateway connects to the socket as a member of that group",
        )
    if not member:
        return _FOLDER.fail(
            f"{shown}, which {notary.gateway_user} is not in: the gateway cannot connect",
            f"chgrp {folder} to a group of {notary.gateway_user}, or put that user in",
        )
    return _FOLDER.ok(f"{shown}, which {notary.gateway_user} is in")


def _is_member(uid: int, group: int) -> bool | None:
    """Whether a user is in a group; None for one whom this machine does not know by a name."""
    if uid == os.geteuid():
        return group == os.getegid() or group in os.getgroups()
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return None
    return group in os.getgrouplist(user.pw_name, user.pw_gid)


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _closed_data_dir(notary: NotarySettings, viewer: Viewer) -> Finding:
    """It is the notary's alone: that the gateway's user cannot look into it is as it should be."""
    folder = notary.data_dir
    if len(viewer.parts) != 1:
        return unseen(_DATA, notary, Part.NOTARY)
    if os.access(folder, os.R_OK) or os.access(folder, os.X_OK):
        close = f"chown {notary.user} {folder}; chmod 700 {folder}"
        return _DATA.fail(
            f"{folder} is open to the gateway's user, and is to be the notary's alone",
            close if viewer.uid != _ROOT else "run the gateway as another user than root",
        )
    return _DATA.ok(
        f"{folder}: closed to the gateway's user, as it should be, or not there yet", looked=False
    )
