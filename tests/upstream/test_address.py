"""What an engine's address may look like."""

from __future__ import annotations

import pytest

from attestation.errors import UsageError
from gateway.upstream import EngineAddress, parse_engine_url


@pytest.mark.parametrize(
    ("url", "address", "authority"),
    [
        ("http://127.0.0.1:8000", EngineAddress(host="127.0.0.1", port=8000), b"127.0.0.1:8000"),
        ("http://engine/", EngineAddress(host="engine", port=80), b"engine:80"),
        ("http://[::1]:9", EngineAddress(host="::1", port=9), b"[::1]:9"),
        ("unix:/run/e.sock", EngineAddress(path="/run/e.sock"), b"localhost"),
    ],
)
def test_addresses_are_read(url: str, address: EngineAddress, authority: bytes) -> None:
    assert parse_engine_url(url) == address
    assert address.authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "", "127.0.0.1:8000", "https://127.0.0.1:8000", "http://", "http://:80", "http://e:0",
        "http://e:99999", "http://e:x", "http://u:p@e:80", "http://e/v1", "http://e?x=1",
        "http://e#f", "unix:relative", "unix:", "http://e\r\nx: y", "http://é",
    ],
)  # fmt: skip
def test_other_addresses_are_refused_with_a_hint(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_engine_url(url)
    assert caught.value.code == "upstream_url"
    assert caught.value.hint
