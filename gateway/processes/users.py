"""Users of this machine, by the names that settings give them."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from attestation.errors import UsageError

if TYPE_CHECKING:
    from gateway.settings import NotarySettings


def uid_of(name: str) -> int:
    """Return the number of a user, who may be named by that number.  Raises `UsageError`."""
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UsageError(
            f"there is no user {name} on this machine",
            code="user",
            expected="users that exist, in notary.user and notary.gateway_user",
            hint="make the user, or name one that is there (a number will do)",
        ) from None


def require_user(name: str, command: str) -> None:
    """Raise `UsageError` unless this process runs as `name`: the other side lets in nobody else."""
    wanted, own = uid_of(name), os.geteuid()
    if own != wanted:
        raise UsageError(
            f"{command} runs as another user than the settings say",
            code="user",
            expected=f"user {name} ({wanted})",
            observed=f"user {own}",
            hint="start it as that user, or change notary.user and notary.gateway_user",
        )


def require_two_users(notary: NotarySettings) -> None:
    """Raise `UsageError` if a notary apart and its gateway are one user, by name or by number.

    Names that this machine does not know are compared as they are: settings may be checked on
    another one.
    """
    if notary.user is None or notary.gateway_user is None:
        return
    names = (notary.user, notary.gateway_user)
    numbers = tuple(map(_known_uid, names))
    if names[0] != names[1] and (None in numbers or numbers[0] != numbers[1]):
        return
    shown = names[0] if numbers[0] is None else f"{names[0]} ({numbers[0]})"
    raise UsageError(
        "notary and gateway are to run as one user: that is no notary apart",
        code="user",
        expected="notary.user and notary.gateway_user of different users",
        observed=f"{shown} and {names[1]}",
        hint="make a user for each; without both settings attested serve starts its own notary",
    )


def _known_uid(name: str) -> int | None:
    try:
        return uid_of(name)
    except UsageError:
        return None
