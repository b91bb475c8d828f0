"""Settings of the notary: its log, its files, where its quotes come from."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import field_validator, model_validator

from gateway.settings.fields import REQUIRED, Section, measured, unmeasured
from gateway.settings.places import require_absolute

_MEBIBYTE = 1 << 20
_USER = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$"


class NotarySettings(Section):
    """The log of receipts and the life of its keys."""

    data_dir: Path = unmeasured(REQUIRED, "folder for receipts and leaves, mode 0700")
    socket: Path | None = unmeasured(
        None, "Unix socket between notary and workers; without one, in a fresh temporary folder"
    )
    user: str | None = unmeasured(
        None,
        "user of a notary apart (attested notary), to which attested serve connects at socket",
        pattern=_USER,
    )
    gateway_user: str | None = unmeasured(
        None, "user of attested serve, the only one whom a notary apart lets connect", pattern=_USER
    )
    connect_seconds: float = unmeasured(
        30.0, "seconds in which a notary apart has to be there", gt=0, le=3600
    )
    keyset_days: int = measured(30, "days after which this boot's keys end", ge=1, le=366)
    retain_days: int = unmeasured(
        365, "days after which receipts and logs are deleted", ge=1, le=36_600
    )
    max_tasks: int = unmeasured(
        250_000, "tasks whose call numbers are remembered", ge=1, le=100_000_000
    )

    min_free_bytes: int = unmeasured(
        256 * _MEBIBYTE, "free space below which /readyz says disk_low", ge=0
    )
    slow_seconds: float = unmeasured(
        5.0, "seconds without an answer of the notary before requests are refused", gt=0, le=600
    )
    patience_seconds: float = unmeasured(
        30.0, "seconds an answer waits for its receipt before it is discarded", gt=0, le=3600
    )

    @field_validator("socket")
    @classmethod
    def _absolute(cls, socket: Path | None) -> Path | None:
        return require_absolute(socket)

    @model_validator(mode="after")
    def _apart_is_complete(self) -> Self:
        # Neither side may guess who is on the other end.
        if (self.user is None) != (self.gateway_user is None):
            raise ValueError("set both of user and gateway_user, or none")
        if self.user is not None and self.socket is None:
            raise ValueError("a notary apart is found by its socket: set notary.socket")
        return self

    @property
    def apart(self) -> bool:
        """Whether the notary is started by itself, not by `attested serve`."""
        return self.user is not None


class LogSettings(Section):
    """How often the log is signed, quoted and published, and how its files are cut."""

    checkpoint_seconds: float = unmeasured(
        1.0, "most seconds from a durable leaf to a signed checkpoint over it", gt=0, le=1
    )
    epoch_seconds: float = unmeasured(
        10.0, "seconds between two quotes of the log while receipts come in", gt=0, le=3600
    )
    forced_epoch_seconds: float = unmeasured(
        2.0, "least seconds between two such quotes when somebody waits", gt=0, le=3600
    )
    export_seconds: float = unmeasured(
        10.0, "most seconds until the static files show what was signed", gt=0, le=3600
    )
    segment_bytes: int = unmeasured(
        64 * _MEBIBYTE, "size at which a segment file ends", ge=64 * 1024, le=1024 * _MEBIBYTE
    )


class EvidenceSettings(Section):
    """Where quotes come from."""

    provider: str = measured(
        REQUIRED, "quote provider: configfs-tsm:, vsock-qgs:, dstack: or simulated:", min_length=1
    )
    collateral_file: Path | None = unmeasured(
        None, "collateral to hand out with the evidence (dcap JSON); auditors check it themselves"
    )
    endorsements: Path | None = unmeasured(
        None, "folder that attested endorsements fetch fills; the newest set that fits is shown"
    )
    runtime_log: Path | None = unmeasured(
        None, "log of the events that earlier boots of this TD extended into RTMR3"
    )
    quote_timeout: float = unmeasured(30.0, "seconds one quote may take", gt=0, le=600)
    quote_interval: float = unmeasured(
        1.0, "least seconds between two challenge quotes", ge=0, le=600
    )
    max_challenges: int = unmeasured(256, "challenges that may wait at once", ge=1, le=1024)
