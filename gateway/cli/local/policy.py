"""A policy that accepts exactly one local gateway: its simulated measurements and its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from gateway.notary.interface import Boot

_TEMPLATE = """\
# What an auditor accepts here: this software, these settings, nothing else.
# The values are those of a simulated trust domain; on real hardware they come from the published
# measurements of an image, never from the machine that is to be judged.
schema = "appraisal-policy/1"

[tdx]
tcb_status = ["UpToDate"]
max_key_events = 1

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
rtmr3 = "replay"
config_digest = "{config_digest}"
origin = "{origin}"
"""


def pin_policy(boot: Boot) -> str:
    """The text of a policy (TOML) that pins what the boot's own quote and statement say.

    Pinning what one has just been shown is right only for whoever started the machine.
    """
    body = parse_quote(boot.evidence.quote).body
    statement = boot.evidence.statement
    return _TEMPLATE.format(
        name="simulated gateway of this demo",
        mrtd=body.mrtd.hex(),
        rtmr0=body.rtmrs[0].hex(),
        rtmr1=body.rtmrs[1].hex(),
        rtmr2=body.rtmrs[2].hex(),
        config_digest=statement.config_digest.hex,
        origin=boot.log_origin.rpartition("/")[0],
    )
