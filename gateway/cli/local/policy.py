"""A policy that accepts exactly one local gateway: its measurements and its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from gateway.notary.interface import Boot

_TEMPLATE = """\
# What an auditor accepts here: this software, these settings, nothing else.
# The values are those this very machine has shown, simulated or not.  Real ones come from the
# published measurements of an image, never from the machine that is to be judged.
schema = "appraisal-policy/1"

[tdx]
tcb_status = ["UpToDate"]
max_key_events = 1
{unbound}
[log]
# Every receipt has to stand in a state of the log that was quoted: its place in the order cannot
# be changed any more, not even by somebody who steals the keys of the gateway.
require_anchored = true

[[reference_values]]
name = "{name}"
mrtd = "{mrtd}"
rtmr0 = "{rtmr0}"
rtmr1 = "{rtmr1}"
rtmr2 = "{rtmr2}"
rtmr3 = "{rtmr3}"
config_digest = "{config_digest}"
origin = "{origin}"
"""

_UNBOUND = """\
# The demo leaves RTMR3 alone: an extension could not be taken back while this machine runs.  A
# gateway in production binds its keys there, and this line must not be in its policy.
unbound_keys = "allow"
"""


def pin_policy(boot: Boot) -> str:
    """The text of a policy (TOML) that pins what the boot's own quote and statement say.

    Pinning what one has just been shown is right only for whoever started the machine.
    """
    body = parse_quote(boot.evidence.quote).body
    statement = boot.evidence.statement
    has_log = boot.evidence.event_log is not None
    return _TEMPLATE.format(
        name="gateway of this demo",
        unbound="" if has_log else _UNBOUND,
        rtmr3="replay" if has_log else body.rtmrs[3].hex(),
        mrtd=body.mrtd.hex(),
        rtmr0=body.rtmrs[0].hex(),
        rtmr1=body.rtmrs[1].hex(),
        rtmr2=body.rtmrs[2].hex(),
        config_digest=statement.config_digest.hex,
        origin=boot.log_origin.rpartition("/")[0],
    )
