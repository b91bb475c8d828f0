"""Settings of engines: one or several, each with its own name; what steers prompts is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.errors import UsageError
from gateway.settings import Settings, load_settings
from gateway.settings.load import _ABSENT, _member

REST = """
[access]
keys_file = "keys.json"
[notary]
data_dir = "/var/lib/attested"
[evidence]
provider = "simulated:"
"""
TWO = """
[[upstreams]]
name = "a"
url = "http://127.0.0.1:8000"
models = ["m", "n"]
[[upstreams]]
name = "b"
uds = "/run/b.sock"
weight = 3
"""
ENGINE_SETTINGS = ("url", "uds", "name", "engine", "weight", "models")


def load(folder: Path, text: str, flags: dict[str, str] | None = None) -> Settings:
    file = folder / "gateway.toml"
    file.write_text(text + REST)
    return load_settings(file, flags).settings


def refusal(folder: Path, text: str, flags: dict[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load(folder, text, flags)
    return str(caught.value)


def test_single_engine_is_a_list_of_one_that_serves_any_model(tmp_path: Path) -> None:
    settings = load(tmp_path, '[upstream]\nurl = "http://127.0.0.1:8000"\nidle_timeout = 7\n')
    (engine,) = settings.engines
    assert (engine.name, engine.weight, engine.models) == ("engine", 1, ())
    assert (engine.address, engine.idle_timeout) == ("http://127.0.0.1:8000", 7.0)


def test_several_engines_keep_their_order_weights_and_models(tmp_path: Path) -> None:
    engines = load(tmp_path, TWO).engines
    assert [(one.name, one.address, one.weight, one.models) for one in engines] == [
        ("a", "http://127.0.0.1:8000", 1, ("m", "n")),
        ("b", "unix:/run/b.sock", 3, ()),
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "missing: set upstream.url or upstream.uds, or [[upstreams]]"),
        ('[upstream]\nname = "a"\n', "missing: set upstream.url"),
        ('[upstream]\nurl = "http://a:1"\n' + TWO, "either [upstream] or [[upstreams]], not both"),
        ('[upstream]\nname = "x"\n' + TWO, "either [upstream] or [[upstreams]], not both"),
        (TWO.replace('"b"', '"a"'), "a name of its own for every engine"),
        (TWO.replace('uds = "/run/b.sock"', 'url = "http://127.0.0.1:8000/"'), "an address of its"),
        (TWO.replace('uds = "/run/b.sock"', ""), "upstreams.1 (from"),
        (TWO.replace('uds = "/run/b.sock"', ""), "exactly one of url and uds"),
        (TWO + 'url = "http://a:1"\n', "exactly one of url and uds"),
        (TWO.replace("weight = 3", "weight = 0"), "upstreams.1.weight (from"),
        (TWO.replace("weight = 3", "weight = 1001"), "upstreams.1.weight"),
        (TWO.replace("weight", "wieght"), "did you mean upstreams.weight?"),
        (TWO + 'colour = "red"\n', "an entry of upstreams takes connect_timeout, engine"),
        (TWO.replace('"n"', '"m"'), "expected every model once"),
        (TWO.replace('"n"', '"canary n"'), "upstreams.0.models.1"),
        (TWO.replace("/run/b.sock", "b.sock"), "expected an absolute path"),
        (TWO + '[model]\nlock = "/etc/l"\n[health]\npath = "health"\n', "health.path"),
        (TWO + "[health]\nfailures = 0\n", "health.failures"),
        (TWO + "[health]\ncooldown = 0\n", "health.cooldown"),
        (TWO + "[health]\ninterval = inf\n", "health.interval"),
    ],
)
def test_refused_engines_are_named_without_their_values(
    tmp_path: Path, text: str, named: str
) -> None:
    message = refusal(tmp_path, text)
    assert named in message
    assert "canary" not in message


def test_too_many_engines_are_refused(tmp_path: Path) -> None:
    many = "".join(f'[[upstreams]]\nname = "e{n}"\nurl = "http://e{n}:1"\n' for n in range(17))
    assert "upstreams" in refusal(tmp_path, many)


def test_engines_come_from_the_environment_and_from_flags_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {"upstreams": '[{name = "f", url = "http://127.0.0.1:1"}]'}
    assert [one.name for one in load(tmp_path, TWO, flags).engines] == ["f"]
    monkeypatch.setenv("ATTESTED_UPSTREAMS", '[{"name": "v", "url": "http://127.0.0.1:1"}]')
    assert [one.name for one in load(tmp_path, TWO).engines] == ["v"]


@pytest.mark.parametrize(
    "change",
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8001"),
        ("/run/b.sock", "/run/c.sock"),
        ('"a"', '"c"'),
        ("weight = 3", "weight = 4"),
        ('["m", "n"]', '["m"]'),
        ('name = "b"', 'name = "b"\nengine = "vllm/0.32.0"'),
    ],
)
def test_all_that_decides_where_prompts_go_is_measured(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    before, after = load(tmp_path, TWO), load(tmp_path, TWO.replace(*change))
    assert before.config_digest != after.config_digest


def test_measured_settings_of_engines_have_their_numbers_in_their_names(tmp_path: Path) -> None:
    measured = load(tmp_path, TWO).measured
    found = {name for name in measured if name.startswith("upstreams")}
    assert found == {f"upstreams.{n}.{name}" for n in (0, 1) for name in ENGINE_SETTINGS}
    assert measured["upstreams.0.models"] == ["m", "n"]


def test_timeouts_and_health_stay_outside_the_digest(tmp_path: Path) -> None:
    before = load(tmp_path, TWO)
    after = load(tmp_path, TWO + "idle_timeout = 5\n[health]\ninterval = 1\ncooldown = 9\n")
    assert after.engines[1].idle_timeout == 5
    assert before.config_digest == after.config_digest


def test_origin_of_a_setting_of_one_engine_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(TWO + REST)
    origins = {one.path: one for one in load_settings(file).origins}
    assert origins["upstreams.1.weight"].source == str(file)
    assert origins["upstreams.0.weight"].source == "default"
    assert origins["upstreams.1.weight"].measured
    assert not origins["upstreams.1.idle_timeout"].measured


def test_lock_speaks_of_the_one_engine_behind_a_unix_socket(tmp_path: Path) -> None:
    lock = '[model]\nlock = "/etc/model.lock"\n'
    locked = load(tmp_path, TWO + lock).locked_engine
    assert locked is not None
    assert locked.name == "b"
    assert load(tmp_path, TWO).locked_engine is None
    remote = TWO.replace('uds = "/run/b.sock"', 'url = "http://127.0.0.1:1"')
    assert "one engine inside this trust domain" in refusal(tmp_path, remote + lock)
    # Two local engines and one lock: it would not be plain whose arguments were measured.
    both = TWO.replace('url = "http://127.0.0.1:8000"', 'uds = "/run/a.sock"')
    assert "one engine inside this trust domain" in refusal(tmp_path, both + lock)


@pytest.mark.parametrize("place", ["\u00b2", "\u0661", "9" * 5000, "-1", ""])
def test_place_in_a_list_is_named_in_ascii_digits_only(place: str) -> None:
    assert _member([1, 2, 3], place) is _ABSENT
