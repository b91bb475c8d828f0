"""The gateway's settings: one typed tree, built from a file, the environment and flags."""

from gateway.settings.access import AccessSettings
from gateway.settings.engines import EngineSettings, HealthSettings, UpstreamSettings
from gateway.settings.keeping import EvidenceSettings, NotarySettings
from gateway.settings.load import Loaded, Origin, load_settings
from gateway.settings.model import Settings
from gateway.settings.serving import AdminSettings, Limits, ListenSettings, TlsSettings

__all__ = [
    "AccessSettings",
    "AdminSettings",
    "EngineSettings",
    "EvidenceSettings",
    "HealthSettings",
    "Limits",
    "ListenSettings",
    "Loaded",
    "NotarySettings",
    "Origin",
    "Settings",
    "TlsSettings",
    "UpstreamSettings",
    "load_settings",
]
