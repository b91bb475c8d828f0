"""A fetch from the double of the service, at a fixed time, with a clock that waits for nobody."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from attestation.tdx.collateral import Collateral
from attestation.tdx.endorsements import parse_endorsements
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.cli.main import main
from gateway.endorsements.service import Service, Wanted, fetch_endorsements
from gateway.endorsements.transfer import Patience, Transfer
from tests.endorsements.pcs import PcsDouble

NOW = 1_790_000_000
PLATFORM = SimulatedPlatform(now=NOW, seed=b"fetched")
GOOD = PLATFORM.collateral()
FMSPC = parse_endorsements(GOOD).fmspc
WANTED = Wanted(fmspc=FMSPC, ca="platform")


class Steps:
    """A clock that only moves while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def patience(self, seconds: float = 60.0) -> Patience:
        return Patience(seconds=seconds, monotonic=lambda: self.now, sleep=self.sleep)


def fetch(
    double: PcsDouble, *, steps: Steps | None = None, service: Service | None = None, **changes: Any
) -> Collateral:
    return fetch_endorsements(
        service or double.pcs,
        dataclasses.replace(WANTED, **changes),
        Transfer((steps or Steps()).patience()),
        PLATFORM.anchor,
        NOW,
    ).collateral


def run(double: PcsDouble, store: Path, *arguments: str) -> int:
    root = store.parent / "root.pem"
    root.write_bytes(PLATFORM.anchor.certificate.public_bytes(serialization.Encoding.PEM))
    which = arguments or ("--fmspc", FMSPC.upper(), "--ca", "platform")
    base = ["--from", double.url, "--store", str(store), "--at", str(NOW), "--timeout", "5"]
    return main(["endorsements", "fetch", *base, "--root", str(root), *which])


def stored(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir())
