"""A folder of files to verify, and what the commands print about them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.cli.main import main
from tests.support.bundles import NOW, Exchanged, Gateway

AT = ["--at", str(NOW + 60)]


class Folder:
    """A folder as the demo leaves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gateway = Gateway()
        self.gateway.plain(nonce="abcdefgh")
        self.gateway.stream()
        self.write("bundle.json", self.gateway.bundle().encode())
        self.write("policy.toml", self.gateway.policy_toml().encode())
        self.write("root.pem", self.gateway.anchor.certificate.public_bytes(Encoding.PEM))
        (path / "bodies").mkdir()
        for exchanged in self.gateway.exchanged:
            self.write(f"bodies/{exchanged.jti}.request", exchanged.request)
            self.write(f"bodies/{exchanged.jti}.response", exchanged.response)
        self.write("bodies/README.txt", b"not a body")

    def write(self, name: str, data: bytes) -> str:
        (self.path / name).write_bytes(data)
        return self[name]

    def __getitem__(self, name: str) -> str:
        return str(self.path / name)

    @property
    def first(self) -> Exchanged:
        return self.gateway.exchanged[0]

    @property
    def grounds(self) -> list[str]:
        return ["--policy", self["policy.toml"], "--root", self["root.pem"], *AT]

    def verify(self, *arguments: str, file: str | None = None) -> int:
        return main(["verify", *self.grounds, *arguments, "--", file or self["bundle.json"]])

    def verify_all(self, files: list[str], *arguments: str) -> int:
        return main(["verify", *files, *self.grounds, *arguments])


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def check_of(value: dict[str, Any], id_: str, number: int = 0) -> dict[str, Any]:
    found: list[dict[str, Any]] = [check for check in value["checks"] if check["id"] == id_]
    return found[number]


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)
