"""What sessions remember of endorsements, in the file that `attested verify --high-water` has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli.high_water import HighWaterFile

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.policy import Policy
    from attestation.result import AttestationResult
    from attestation.verifier import HighWater


class Marks:
    """The newest endorsements seen before a session, and a file that the session raises.

    `known` stays what it was at the session's start, so that the evidence of one session is judged
    by one measure; None remembers nothing.
    """

    def __init__(self, path: Path | None, policy: Policy | None = None) -> None:
        """Read the file; a missing one is made, and stderr says so.

        A signed `policy` that is older than one of its signer's in the file raises `EvidenceError`.

        Raises `MalformedError` for a file that is something else, `UsageError` for one that
        cannot be made or read.
        """
        self._file = None if path is None else HighWaterFile(str(path))
        self.known: HighWater | None = self._file.open(policy) if self._file else None
        self._raised = self.known

    def see(self, result: AttestationResult) -> None:
        """Remember the endorsements behind the genuine quotes of a result, accepted or not.

        Raises `UsageError` if they cannot be written down.
        """
        if self._file is None or self._raised is None:
            return
        raised = self._raised.raised(result.endorsed)
        if raised != self._raised:
            self._file.raise_by(result.endorsed)
            self._raised = raised
