"""Settings of what stands behind the gateway: engines, their health, the model they serve.

One engine is `[upstream]`; several are `[[upstreams]]`.  What decides where a prompt goes is
measured: addresses, names, weights and models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import StringConstraints, field_validator, model_validator

from attestation.receipt import text
from gateway.settings.fields import Section, measured, unmeasured
from gateway.settings.places import require_absolute

MAX_ENGINES = 16
_LABEL = f"^{text.LABEL.pattern}$"
_ENGINE = f"^{text.ENGINE.pattern}$"
_MODEL = f"^{text.CALLER_TEXT.pattern}$"
_HEALTH_PATH = r"^/[A-Za-z0-9._/-]{0,63}$"

ModelName = Annotated[str, StringConstraints(pattern=_MODEL)]


class UpstreamSettings(Section):
    """One engine behind the gateway: its address is where prompts go.

    Without an address it stands for no engine: then `[[upstreams]]` names them.
    """

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
    def _one_address(self) -> Self:
        if self.url is not None and self.uds is not None:
            raise ValueError("set exactly one of url and uds")
        return self

    @property
    def placed(self) -> bool:
        """Whether it has an address."""
        return self.url is not None or self.uds is not None

    @property
    def address(self) -> str:
        """Where the engine listens, as a URL (`unix:PATH` for a socket)."""
        return self.url or f"unix:{self.uds}"


class EngineSettings(UpstreamSettings):
    """One of several engines: what it may be asked for, and how often."""

    weight: int = measured(1, "share of the requests, relative to other engines", ge=1, le=1000)
    models: tuple[ModelName, ...] = measured((), "models it serves; without a list, any")

    @model_validator(mode="after")
    def _has_address(self) -> Self:
        if not self.placed:
            raise ValueError("set exactly one of url and uds")
        return self

    @field_validator("models")
    @classmethod
    def _each_once(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(models)) != len(models):
            raise ValueError("expected every model once")
        return models


def require_engines(one: UpstreamSettings, several: tuple[EngineSettings, ...]) -> None:
    """Refuse settings that name no engine, both forms at once, or two engines alike."""
    if several and one.model_fields_set:
        raise ValueError("set either [upstream] or [[upstreams]], not both")
    if not several and not one.placed:
        raise ValueError("missing: set upstream.url or upstream.uds, or [[upstreams]]")
    if len({each.name for each in several}) != len(several):
        raise ValueError("expected a name of its own for every engine: receipts tell them by it")
    if len({each.address for each in several}) != len(several):
        raise ValueError("expected an address of its own for every engine")


class HealthSettings(Section):
    """How engines are watched: by what requests meet, and by asking them now and then."""

    path: str = unmeasured("/health", "path an engine is asked at", pattern=_HEALTH_PATH)
    interval: float = unmeasured(
        5.0, "seconds between two such questions to an engine; 0: it is not asked", ge=0, le=3600
    )
    timeout: float = unmeasured(5.0, "seconds an answer to them may take", gt=0, le=60)
    failures: int = unmeasured(3, "failures in a row after which an engine is left", ge=1, le=100)
    cooldown: float = unmeasured(
        2.0, "seconds until an engine that was left is tried or asked again", gt=0, le=3600
    )


class SelfCheckSettings(Section):
    """What the gateway sees of its engines before it opens its port."""

    routes: Literal["off", "answering", "required"] = measured(
        "answering",
        "no route that changes an engine may be open: on engines that answer, on all, or unasked",
    )
    patience_seconds: float = unmeasured(
        0.0, "seconds until engines have to answer, where that is required", ge=0, le=7200
    )


class ModelSettings(Section):
    """The model that the engine behind a Unix socket serves, measured when the gateway starts."""

    lock: Path | None = measured(
        None, "model lock to measure into RTMR3 and name in receipts (attested model lock)"
    )

    @field_validator("lock")
    @classmethod
    def _absolute(cls, lock: Path | None) -> Path | None:
        return require_absolute(lock)
