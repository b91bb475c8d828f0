"""All settings of the gateway in one tree, and the digest of the measured ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.receipt import text
from gateway.settings.access import AccessSettings
from gateway.settings.engines import (
    MAX_ENGINES,
    EngineSettings,
    HealthSettings,
    ModelSettings,
    SelfCheckSettings,
    UpstreamSettings,
    require_engines,
)
from gateway.settings.fields import measured, unmeasured
from gateway.settings.keeping import EvidenceSettings, LogSettings, NotarySettings
from gateway.settings.places import is_loopback
from gateway.settings.serving import (
    AdminSettings,
    CacheSettings,
    Limits,
    ListenSettings,
    PaddingSettings,
    TlsSettings,
)
from gateway.settings.telemetry import TelemetrySettings
from gateway.settings.tree import leaves

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

CONFIG_SCHEMA = "attested-gateway/config/v1"
_NAME = f"^{text.NAME.pattern}$"


class Settings(BaseSettings):
    """All settings.  Building one reads neither file nor environment: `load_settings` does."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix="ATTESTED_",
        env_nested_delimiter="__",
    )

    name: str = measured("gateway.local", "name in receipts and of the log", pattern=_NAME)
    workers: int = unmeasured(1, "worker processes; 0 serves in one process", ge=0, le=64)
    listen: ListenSettings = ListenSettings()
    tls: TlsSettings = TlsSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    upstreams: tuple[EngineSettings, ...] = measured(
        (), "engines, where there are several, instead of upstream", max_length=MAX_ENGINES
    )
    health: HealthSettings = HealthSettings()
    selfcheck: SelfCheckSettings = SelfCheckSettings()
    model: ModelSettings = ModelSettings()
    access: AccessSettings
    notary: NotarySettings
    log: LogSettings = LogSettings()
    evidence: EvidenceSettings
    cache: CacheSettings = CacheSettings()
    padding: PaddingSettings = PaddingSettings()
    limits: Limits = Limits()
    admin: AdminSettings = AdminSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what the caller passes; the layers are merged, and reported, elsewhere."""
        return (init_settings,)

    @field_validator("upstreams")
    @classmethod
    def _engines(
        cls, upstreams: tuple[EngineSettings, ...], info: ValidationInfo
    ) -> tuple[EngineSettings, ...]:
        if "upstream" in info.data:
            require_engines(info.data["upstream"], upstreams)
        return upstreams

    @model_validator(mode="after")
    def _plain_http_stays_inside(self) -> Self:
        if self.tls.mode == "off" and self.listen.uds is None and not is_loopback(self.listen.host):
            raise ValueError(
                "plain HTTP is refused off loopback: set tls.mode to self-signed, "
                "or listen on 127.0.0.1 or a Unix socket"
            )
        return self

    @model_validator(mode="after")
    def _notary_apart_is_apart(self) -> Self:
        if self.notary.apart and self.workers == 0:
            raise ValueError("a notary apart has no part in one process: set workers to 1 or more")
        if self.notary.apart and self.access.budgets_file is None:
            raise ValueError(
                "notary.data_dir is closed to the gateway of a notary apart: set "
                "access.budgets_file to a file in a folder of the gateway's"
            )
        return self

    @model_validator(mode="after")
    def _locked_model_is_here(self) -> Self:
        # Only a Unix socket is known to end in this trust domain; a port could be forwarded.
        # A lock measures one engine, so it must be plain which one that is.
        sockets = [engine for engine in self.engines if engine.uds is not None]
        if self.model.lock is not None and len(sockets) != 1:
            raise ValueError(
                "model.lock speaks of one engine inside this trust domain: set upstream.uds "
                "instead of upstream.url, or uds in one entry of [[upstreams]]"
            )
        return self

    @property
    def engines(self) -> tuple[EngineSettings, ...]:
        """The engines, at least one, whichever way they were written."""
        if self.upstreams:
            return self.upstreams
        # Checked when it was read; `model_construct` leaves it at that.
        return (EngineSettings.model_construct(**dict(self.upstream)),)

    @property
    def locked_engine(self) -> EngineSettings | None:
        """The engine that `model.lock` speaks of, None without a lock."""
        if self.model.lock is None:
            return None
        return next(engine for engine in self.engines if engine.uds is not None)

    @property
    def measured(self) -> dict[str, Any]:
        """The effective measured settings by dotted name, ready for JCS."""
        return {leaf.path: leaf.json_value for leaf in leaves(self) if leaf.measured}

    @property
    def config_digest(self) -> Digest:
        """H(JCS of schema and measured settings): the boot statement's `config_digest`."""
        document = {"schema": CONFIG_SCHEMA, "settings": self.measured}
        return Digest.of(jcs.canonicalize(document))
