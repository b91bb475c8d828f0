"""Whether a boot goes on: it ends once, for one reason, and never comes back."""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import NotaryUnavailable


class Lifetime:
    """The state that every part of a notary shares; `on_end` is told the one reason."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self.reason = ""
        self.closing = False

    @property
    def healthy(self) -> bool:
        """Whether a request announced now can be expected to get its receipt."""
        return not self.reason and not self.closing

    def end(self, reason: str) -> None:
        """End the boot; only the first reason counts."""
        if not self.reason:
            self.reason = reason
            self._on_end(reason)

    def require_running(self) -> None:
        """Raise `NotaryUnavailable` once the boot has ended."""
        if self.reason:
            raise NotaryUnavailable(f"the boot has ended: {self.reason}")

    def require_open(self) -> None:
        """Raise `NotaryUnavailable` once the boot takes no new requests."""
        self.require_running()
        if self.closing:
            raise NotaryUnavailable("the notary takes no new requests")
