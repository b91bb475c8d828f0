"""What one try at an engine came to."""

from __future__ import annotations

from typing import Final, NamedTuple

ANSWERED: Final = "ok"


class Attempt(NamedTuple):
    """One try at the engine `up`: `out` is "ok" or an `UpstreamFailure` word, `ms` runs to the
    head or the failure, `local` says that it is this trust domain's own engine.

    A tuple, because one is made for every request.
    """

    up: str
    local: bool
    out: str
    ms: int
