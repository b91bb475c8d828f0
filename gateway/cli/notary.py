"""`attested notary`: run the notary by itself, as the one user with keys, log and quotes."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

import uvloop

from attestation.errors import UnavailableError, UsageError
from gateway.cli.config import add_settings_arguments, load_from_arguments
from gateway.processes.alone import LoneNotary
from gateway.processes.child import allow_open_files, forbid_core_dumps, forbid_inspection
from gateway.processes.users import require_two_users

if TYPE_CHECKING:
    from gateway.settings import Settings

HELP = "run the notary by itself, under another user than the gateway"

_EPILOG = """\
`attested serve` starts a notary of its own, as its own user. With notary.user and
notary.gateway_user in the settings it starts none: it connects to this one at notary.socket. Then
workers hold neither keys nor log, and cannot ask for quotes nor extend RTMR3: only the notary's
user may. Both sides ask the kernel who is on the other end.

The two users have to be different ones. The socket's folder has to be there: the notary user's own,
mode 0750, its group one that the gateway's user is in. Systemd (Type=notify) is told once the
socket takes connections; the boot is made when the gateway comes, because its keyset names the
gateway's TLS key. One gateway in its life: when that ends, the notary seals what is left and ends
too.

A signal has the gateway end first, for at most limits.drain_seconds and 20 s; a second one does
not wait for it. Either way the notary seals what is left, and no signal cuts that short.

examples:
  attested notary --config gateway.toml
  setpriv --reuid attested-notary --regid attested-notary --init-groups \\
      attested notary --config gateway.toml

exit codes: 0 the gateway ended, or a signal came; 2 usage; 14 the boot ended by itself
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_settings_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve one gateway; 0 after it or a signal, `UnavailableError` if the boot ended by itself."""
    forbid_core_dumps()
    forbid_inspection()
    allow_open_files()
    settings = load_from_arguments(args).settings
    _require_apart(settings)
    require_two_users(settings.notary)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reason = runner.run(LoneNotary(settings).run())
    if reason:
        raise UnavailableError(
            "the boot ended; nothing more can be receipted",
            code=reason,
            observed=reason,
            hint="see docs/operating.md, then start notary and gateway anew: another boot",
        )
    return 0


def _require_apart(settings: Settings) -> None:
    if not settings.notary.apart:
        raise UsageError(
            "these settings have no notary by itself",
            code="notary_apart",
            expected="notary.user, notary.gateway_user and notary.socket",
            hint="set them, or start attested serve alone: it runs its own notary",
        )
