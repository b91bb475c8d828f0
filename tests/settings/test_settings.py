"""Settings: layers, bounds, marks, and errors that name the setting and not its value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attestation.errors import UsageError
from gateway.settings import Settings, load_settings
from gateway.settings.fields import is_measured
from gateway.settings.tree import declared, leaves

FILE = """
name = "gw.test"
[upstream]
url = "http://127.0.0.1:8000"
[access]
keys_file = "keys.json"
[notary]
data_dir = "/var/lib/attested"
[evidence]
provider = "simulated:"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE)
    return path


def origin_of(file: Path, name: str, flags: dict[str, str] | None = None) -> tuple[object, str]:
    loaded = load_settings(file, flags)
    (origin,) = [item for item in loaded.origins if item.path == name]
    return origin.value, origin.source


def refusal(file: Path | None, flags: dict[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(file, flags)
    return str(caught.value)


def test_later_layer_wins_setting_by_setting(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert origin_of(file, "limits.max_n") == (16, "default")
    file.write_text(FILE + "[limits]\nmax_n = 8\nbody_bytes = 99\n")
    assert origin_of(file, "limits.max_n") == (8, str(file))
    monkeypatch.setenv("ATTESTED_LIMITS__MAX_N", "4")
    assert origin_of(file, "limits.max_n") == (4, "ATTESTED_LIMITS__MAX_N")
    flags = {"limits.max_n": "2"}
    assert origin_of(file, "limits.max_n", flags) == (2, "--set limits.max_n")
    assert origin_of(file, "limits.body_bytes", flags) == (99, str(file))


def test_lists_come_as_json_from_the_environment_and_as_toml_from_flags(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTESTED_TLS__NAMES", '["a", "b"]')
    assert load_settings(file).settings.tls.names == ("a", "b")
    assert load_settings(file, {"tls.names": '["c"]'}).settings.tls.names == ("c",)
    monkeypatch.setenv("ATTESTED_TLS__NAMES", "canary-a,b")
    assert "canary" not in refusal(file)


def test_paths_in_the_file_are_relative_to_it(file: Path) -> None:
    settings = load_settings(file).settings
    assert settings.access.keys_file == file.parent / "keys.json"
    assert settings.notary.data_dir == Path("/var/lib/attested")


def test_building_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTESTED_NAME", "from-environment")
    settings = Settings.model_validate(
        {
            "upstream": {"uds": "/run/engine.sock"},
            "access": {"keys_file": "k"},
            "notary": {"data_dir": "d"},
            "evidence": {"provider": "simulated:"},
        }
    )
    assert settings.name == "gateway.local"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"listen.prot": "1"}, "did you mean listen.port?"),
        ({"limits.drain_seconds": "inf"}, "limits.drain_seconds (from --set"),
        ({"limits.drain_seconds": "nan"}, "expected a finite number"),
        ({"limits.refusals_per_second": "inf"}, "expected a finite number"),
        ({"upstream.connect_timeout": "nan"}, "expected a finite number"),
        ({"listen.port": "70000"}, "listen.port (from --set listen.port)"),
        ({"listen.port": "canary"}, "listen.port"),
        ({"listen.uds": "/run/x", "listen.port": "1"}, "either uds or host and port"),
        ({"listen.host": "192.0.2.1", "tls.mode": "off"}, "plain HTTP is refused off loopback"),
        ({"listen.host": "gw.example", "tls.mode": "off"}, "plain HTTP is refused off loopback"),
        ({"model.lock": "/etc/model.lock"}, "set upstream.uds"),
        ({"model.lock": ""}, "expected an absolute path"),
        ({"tls.mode": "on"}, "tls.mode"),
        ({"tls.names": "[]"}, "tls.names"),
        ({"upstream.uds": "/run/engine.sock"}, "exactly one of url and uds"),
        ({"upstream.uds": "engine.sock"}, "expected an absolute path"),
        ({"listen.uds": "gateway.sock"}, "expected an absolute path"),
        ({"upstream.url": "https://engine"}, "expected http://host:port"),
        ({"upstream.url": "http://engine/path"}, "without path"),
        ({"upstream.url": "http://canary@engine"}, "without path, query or user"),
        ({"upstream.url": "http://"}, "expected http://host:port"),
        ({"upstream.name": "two words"}, "upstream.name"),
        # A receipt's label of an engine has no room for more than 24 characters.
        ({"upstream.name": "e" * 25}, "upstream.name"),
        ({"name": "plus+sign"}, "name"),
        ({"admin.host": "10.0.0.1"}, "only takes a loopback address"),
        ({"notary.keyset_days": "0"}, "notary.keyset_days"),
        ({"limits.header_seconds": "-1"}, "limits.header_seconds"),
    ],
)
def test_refused_setting_is_named_without_its_value(
    file: Path, flags: dict[str, str], named: str
) -> None:
    message = refusal(file, flags)
    assert named in message
    assert "canary" not in message


def test_unknown_table_and_member_are_refused(file: Path) -> None:
    file.write_text(FILE + "[listne]\nport = 1\n")
    assert "listne (from" in refusal(file)
    assert "did you mean listen?" in refusal(file)
    file.write_text(FILE + "[listen]\nportt = 1\n")
    assert "did you mean listen.port?" in refusal(file)


def test_unknown_variable_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTESTED_LISTN__PORT", "1")
    assert "ATTESTED_LISTN__PORT names no setting" in refusal(file)


def test_variable_with_one_underscore_is_not_silently_without_effect(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTESTED_LISTEN_PORT", "1")
    assert "did you mean ATTESTED_LISTEN__PORT?" in refusal(file)


def test_variables_that_are_no_settings_are_left_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTESTED_DEBUG", "1")
    monkeypatch.setenv("ATTESTED_VECTORS", "/nowhere")
    load_settings(file)


def test_missing_required_setting_is_named() -> None:
    assert "access: missing" in refusal(None)
    assert "missing: set upstream.url or upstream.uds, or [[upstreams]]" in refusal(None)


def test_refusals_are_in_an_operators_words(file: Path) -> None:
    for flags, words in (
        ({"tls.names": "localhost"}, "expected a list"),
        ({"listen.port": "x"}, "expected a valid integer"),
        ({"listen.host": "192.0.2.1", "tls.mode": "off"}, "refused: plain HTTP"),
        ({"limits.buffered_bytes": "1048576"}, "must hold at least one body and one plain answer"),
    ):
        message = refusal(file, flags)
        assert words in message
        assert "Input should" not in message
        assert "Value error" not in message


def test_file_that_is_absent_or_no_toml_is_refused_without_quoting_it(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("canary = = 1")
    assert "canary" not in refusal(broken)
    assert "a syntax error at line 1, column 10" in refusal(broken)
    broken.write_text("[unfinished")
    assert "a syntax error at end of document" in refusal(broken)
    broken.write_bytes(b"\xff\xfe")
    assert "not TOML" in refusal(broken)
    assert "not UTF-8, at byte 0" in refusal(broken)


def test_loopback_takes_plain_http_and_sockets_too(file: Path) -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        load_settings(file, {"listen.host": host, "tls.mode": "off"})
    load_settings(file, {"listen.uds": "/run/gateway.sock", "tls.mode": "off"})


def test_every_setting_is_marked_and_described() -> None:
    for path, field in declared(Settings):
        assert isinstance(is_measured(field), bool), path
        assert field.description, path


def test_measured_settings_change_the_digest_and_others_do_not(file: Path) -> None:
    base = load_settings(file).settings
    changes = {
        "name": "other",
        "tls.mode": "off",
        "upstream.url": "http://127.0.0.1:1",
        "upstream.name": "other",
        "upstream.engine": "vllm/0.32.0",
        "notary.keyset_days": "7",
        "evidence.provider": "dstack:",
        "limits.max_n": "3",
        "selfcheck.routes": "required",
        "cache.salt": "off",
        "padding.bucket_bytes": "512",
        "padding.tick_ms": "50",
        "telemetry.otlp_endpoint": "http://127.0.0.1:1",
    }
    measured = {leaf.path for leaf in leaves(base) if leaf.measured}
    assert measured == changes.keys() | {
        "upstream.uds",
        "upstreams",
        "model.lock",
        "access.issuers",
    }
    digests = {load_settings(file, {k: v}).settings.config_digest for k, v in changes.items()}
    assert len(digests | {base.config_digest}) == len(changes) + 1
    unmeasured = {"listen.port": "1", "limits.body_bytes": "5", "notary.data_dir": "/x"}
    for name, value in unmeasured.items():
        assert load_settings(file, {name: value}).settings.config_digest == base.config_digest


def test_model_lock_is_measured_beside_the_socket_of_its_engine() -> None:
    document: dict[str, Any] = {
        "upstream": {"uds": "/run/engine.sock"},
        "access": {"keys_file": "k"},
        "notary": {"data_dir": "d"},
        "evidence": {"provider": "simulated:"},
    }
    plain = Settings.model_validate(document)
    locked = Settings.model_validate(document | {"model": {"lock": "/etc/model.lock"}})
    assert locked.measured["model.lock"] == "/etc/model.lock"
    assert locked.config_digest != plain.config_digest


def test_digest_is_that_of_effective_values_wherever_they_come_from(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flagged = load_settings(file, {"limits.max_n": "3"}).settings.config_digest
    monkeypatch.setenv("ATTESTED_LIMITS__MAX_N", "3")
    assert load_settings(file).settings.config_digest == flagged


def test_settings_are_frozen(file: Path) -> None:
    settings = load_settings(file).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.limits.max_n = 99
