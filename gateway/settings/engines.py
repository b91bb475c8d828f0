"""Settings of what stands behind the gateway: engines and the model they serve."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import field_validator, model_validator

from attestation.receipt import text
from gateway.settings.fields import Section, measured, unmeasured
from gateway.settings.places import require_absolute

_LABEL = f"^{text.LABEL.pattern}$"
_ENGINE = f"^{text.ENGINE.pattern}$"


class UpstreamSettings(Section):
    """The engine behind the gateway: its address is where prompts go."""

    url: str | None = measured(None, "http://host:port of the engine")
    uds: Path | None = measured(None, "Unix socket of the engine instead of url")
    name: str = measured("engine", "name of this engine in receipts", pattern=_LABEL)
    engine: str | None = measured(
        None, 'engine name and version for receipts, as "vllm/0.32.0"', pattern=_ENGINE
    )
    connect_timeout: float = unmeasured(2.0, "seconds to connect", gt=0, le=60)
    first_byte_timeout: float = unmeasured(600.0, "seconds to the first byte", gt=0, le=3600)
    idle_timeout: float = unmeasured(60.0, "seconds between two bytes", gt=0, le=3600)
    total_timeout: float = unmeasured(3600.0, "seconds for a whole answer", gt=0, le=86400)

    @field_validator("url")
    @classmethod
    def _plain_origin(cls, url: str | None) -> str | None:
        from urllib.parse import urlsplit  # noqa: PLC0415 - only this check needs it

        if url is None:
            return None
        parts = urlsplit(url)
        bare = f"http://{parts.netloc}"
        if parts.scheme != "http" or url.rstrip("/") != bare or "@" in parts.netloc:
            raise ValueError("expected http://host:port without path, query or user")
        if not parts.hostname or parts.port == 0:
            raise ValueError("expected http://host:port with a host")
        return bare

    @field_validator("uds")
    @classmethod
    def _absolute(cls, uds: Path | None) -> Path | None:
        # A measured path that depended on the working directory would measure nothing.
        return require_absolute(uds)

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if (self.url is None) == (self.uds is None):
            raise ValueError("set exactly one of url and uds")
        return self


class ModelSettings(Section):
    """The model that the engine behind `upstream.uds` serves, measured when the gateway starts."""

    lock: Path | None = measured(
        None, "model lock to measure into RTMR3 and name in receipts (attested model lock)"
    )

    @field_validator("lock")
    @classmethod
    def _absolute(cls, lock: Path | None) -> Path | None:
        return require_absolute(lock)
