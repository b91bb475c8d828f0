"""Every setting of the gateway, with its default, its bounds and whether it is measured."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.receipt import text
from gateway.settings.fields import REQUIRED, Section, measured, unmeasured
from gateway.settings.tree import leaves

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

CONFIG_SCHEMA = "attested-gateway/config/v1"
_NAME = f"^{text.NAME.pattern}$"
_LABEL = f"^{text.LABEL.pattern}$"
_ENGINE = f"^{text.ENGINE.pattern}$"
_MEBIBYTE = 1 << 20


def is_loopback(host: str) -> bool:
    """Whether connections to this host name or address never leave the machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require_absolute(path: Path | None) -> Path | None:
    if path is not None and not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path


class ListenSettings(Section):
    """Where inference and control requests come in: a TCP address or a Unix socket."""

    host: str = unmeasured("127.0.0.1", "address to listen on", min_length=1)
    port: int = unmeasured(8443, "TCP port; 0 takes a free one", ge=0, le=65535)
    uds: Path | None = unmeasured(None, "Unix socket to listen on instead of host and port")

    @field_validator("uds")
    @classmethod
    def _absolute(cls, uds: Path | None) -> Path | None:
        return _require_absolute(uds)

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.uds is not None and {"host", "port"} & self.model_fields_set:
            raise ValueError("set either uds or host and port, not both")
        return self


class TlsSettings(Section):
    """TLS, terminated in the gateway with a key that is born and dies with the boot."""

    mode: Literal["self-signed", "off"] = measured(
        "self-signed", "self-signed: key born per boot; off: plain HTTP, loopback and sockets only"
    )
    names: tuple[str, ...] = unmeasured(
        ("localhost", "127.0.0.1"), "names and addresses in the certificate", min_length=1
    )


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
        return _require_absolute(uds)

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
        return _require_absolute(lock)


class AccessSettings(Section):
    """API keys."""

    keys_file: Path = unmeasured(REQUIRED, "file of hashed API keys (attested keys add)")


class NotarySettings(Section):
    """The log of receipts and the life of its keys."""

    data_dir: Path = unmeasured(REQUIRED, "folder for receipts and leaves, mode 0700")
    socket: Path | None = unmeasured(
        None, "Unix socket between notary and workers; without one, in a fresh temporary folder"
    )
    keyset_days: int = measured(30, "days after which this boot's keys end", ge=1, le=366)
    retain_days: int = unmeasured(
        365, "days after which receipts and logs are deleted", ge=1, le=36_600
    )
    max_tasks: int = unmeasured(
        250_000, "tasks whose call numbers are remembered", ge=1, le=100_000_000
    )

    @field_validator("socket")
    @classmethod
    def _absolute(cls, socket: Path | None) -> Path | None:
        return _require_absolute(socket)


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


class Limits(Section):
    """Bounds on what a caller or the engine may make the gateway hold or do."""

    body_bytes: int = unmeasured(16 * _MEBIBYTE, "largest request body", ge=1)
    response_bytes: int = unmeasured(64 * _MEBIBYTE, "largest plain answer", ge=1)
    frame_bytes: int = unmeasured(4 * _MEBIBYTE, "largest event of a stream", ge=1024)
    header_bytes: int = unmeasured(32 * 1024, "largest request head", ge=1024, le=_MEBIBYTE)
    header_count: int = unmeasured(100, "most header fields of a request", ge=8, le=1000)
    header_seconds: float = unmeasured(10.0, "seconds for a request head", gt=0, le=600)
    body_seconds: float = unmeasured(60.0, "seconds for a request body", gt=0, le=3600)
    max_n: int = measured(16, "most choices (n) a request may ask for", ge=1, le=1024)
    refusals_per_second: float = unmeasured(
        20.0, "refusals a second and key that get a receipt each; more are only counted", gt=0
    )
    drain_seconds: float = unmeasured(30.0, "seconds running requests get at shutdown", ge=0)


class AdminSettings(Section):
    """Metrics and certificate installation, on a listener of their own."""

    host: str = unmeasured("127.0.0.1", "loopback address of the admin listener")
    port: int | None = unmeasured(None, "port; without one there is no admin listener", ge=0)

    @field_validator("host")
    @classmethod
    def _loopback_only(cls, host: str) -> str:
        if not is_loopback(host):
            raise ValueError("the admin listener only takes a loopback address")
        return host


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
    upstream: UpstreamSettings
    model: ModelSettings = ModelSettings()
    access: AccessSettings
    notary: NotarySettings
    log: LogSettings = LogSettings()
    evidence: EvidenceSettings
    limits: Limits = Limits()
    admin: AdminSettings = AdminSettings()

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

    @model_validator(mode="after")
    def _plain_http_stays_inside(self) -> Self:
        if self.tls.mode == "off" and self.listen.uds is None and not is_loopback(self.listen.host):
            raise ValueError(
                "plain HTTP is refused off loopback: set tls.mode to self-signed, "
                "or listen on 127.0.0.1 or a Unix socket"
            )
        return self

    @model_validator(mode="after")
    def _locked_model_is_here(self) -> Self:
        # Only a Unix socket is known to end in this trust domain; a port could be forwarded.
        if self.model.lock is not None and self.upstream.uds is None:
            raise ValueError(
                "model.lock speaks of an engine inside this trust domain: set upstream.uds "
                "instead of upstream.url"
            )
        return self

    @property
    def measured(self) -> dict[str, Any]:
        """The effective measured settings by dotted name, ready for JCS."""
        return {leaf.path: leaf.json_value for leaf in leaves(self) if leaf.measured}

    @property
    def config_digest(self) -> Digest:
        """H(JCS of schema and measured settings): the boot statement's `config_digest`."""
        document = {"schema": CONFIG_SCHEMA, "settings": self.measured}
        return Digest.of(jcs.canonicalize(document))
