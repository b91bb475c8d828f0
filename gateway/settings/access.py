"""Settings of who may call: API keys."""

from __future__ import annotations

from pathlib import Path

from gateway.settings.fields import REQUIRED, Section, unmeasured


class AccessSettings(Section):
    """API keys."""

    keys_file: Path = unmeasured(REQUIRED, "file of hashed API keys (attested keys add)")
