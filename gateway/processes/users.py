"""Users of this machine, by the names that settings give them."""

from __future__ import annotations

import os
import pwd

from attestation.errors import UsageError


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
