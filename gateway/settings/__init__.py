"""The gateway's settings: one typed tree, built from a file, the environment and flags."""

from gateway.settings.load import Loaded, Origin, load_settings
from gateway.settings.model import (
    AccessSettings,
    AdminSettings,
    EvidenceSettings,
    Limits,
    ListenSettings,
    NotarySettings,
    Settings,
    TlsSettings,
    UpstreamSettings,
)

__all__ = [
    "AccessSettings",
    "AdminSettings",
    "EvidenceSettings",
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
