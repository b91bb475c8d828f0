"""Makes this machine a TDX guest, for processes that have this folder on PYTHONPATH.

Python imports a module of this name before anything else.  It puts the model of the kernel behind
the seam that quote providers call; the platform's seed and age come from the environment, so that
the test knows its root; TEST_TDX_INTEL makes that root Intel's.  Registers are each process's own.
"""

from __future__ import annotations

import errno
import os

# After every quote the driver is busy for a while, as it is when somebody else gave up waiting.
_BURST = [errno.EBUSY] * 3


def _become_a_guest() -> None:
    # Only for a test's processes: every other Python that finds this file starts as usual.
    from attestation.tdx import anchor  # noqa: PLC0415
    from gateway.attester import kernel  # noqa: PLC0415
    from gateway.attester.simulated.platform import SimulatedPlatform  # noqa: PLC0415
    from tests.support.tdx_kernel import TdxKernel  # noqa: PLC0415

    platform = SimulatedPlatform(
        now=int(os.environ["TEST_TDX_NOW"]), seed=os.environ["TEST_TDX_SEED"].encode()
    )
    machine = TdxKernel(platform)
    machine.faults.chunk = 1000
    machine.faults.during_outblob = lambda _entry: machine.faults.making.extend(_BURST)
    if "TEST_TDX_INTEL" in os.environ:
        anchor.INTEL_ANCHOR = platform.anchor
    kernel.Kernel = lambda: machine  # type: ignore[assignment,misc]


if "TEST_TDX_SEED" in os.environ:
    _become_a_guest()
