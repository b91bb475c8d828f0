"""The events of RTMR3 by which a measured image says what it starts, before there are keys.

Names, order and meaning (docs/spec/runtime-events.md).  What each one hashes is made where it is
measured; here is what a verifier has to know of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attestation.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

GATEWAY_CONFIG: Final = "gateway.config"
GATEWAY_PACKAGE: Final = "gateway.package"
ENGINE: Final = "engine"
MODEL_ROOT: Final = "model.root"
GPU_POLICY: Final = "gpu.policy"
GPU_EVIDENCE: Final = "gpu.evidence"
READY: Final = "ready"

LAUNCH_ORDER: Final = (
    GATEWAY_CONFIG,
    GATEWAY_PACKAGE,
    ENGINE,
    "model.lock",
    "engine.args",
    MODEL_ROOT,
    GPU_POLICY,
    GPU_EVIDENCE,
    READY,
)
"""Any of these may be absent; those that are there stand in this order, then `receipt.key`."""


def require_launch_order(names: Sequence[str]) -> None:
    """Raise `MalformedError` unless the known ones among `names` stand in `LAUNCH_ORDER`.

    Events of other names may stand anywhere before `ready`; after `ready` there is none.
    """
    places = [LAUNCH_ORDER.index(name) for name in names if name in LAUNCH_ORDER]
    if places != sorted(places) or READY in names[:-1]:
        raise MalformedError(
            "what was measured at launch is not in its order",
            code="event_log",
            expected=", ".join(LAUNCH_ORDER),
            observed=", ".join(name[:64] for name in names[:32]),
            hint="docs/spec/runtime-events.md says what is measured when",
        )
