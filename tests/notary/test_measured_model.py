"""What a notary measures of its model: before its keys, once, and the same at every start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, MalformedError, UnavailableError, UsageError
from attestation.receipt.claims import Attempt
from attestation.receipt.signing import parse_receipt
from attestation.statement.model_lock import (
    LockedEngine,
    LockedFile,
    MeasuredModel,
    ModelLock,
    Role,
)
from gateway.attester.base import open_provider
from gateway.notary.boot import BootSecrets, _require_one_model, start_boot
from gateway.notary.local import LocalNotary
from gateway.notary.model import load_measured_model
from gateway.notary.parts import NotaryParts
from gateway.settings.model import Settings
from tests.support.notaries import notary_parts, sealed

FILE = LockedFile(path="w.safetensors", role=Role.WEIGHTS, sha256=Digest.of(b"w"), size=1)
ENGINE = LockedEngine(name="vllm", version="0.32.0", arguments=("--max-model-len=4096",))
LOCK = ModelLock(model="tiny", files=(FILE,), engine=ENGINE)
OTHER = replace(LOCK, engine=replace(ENGINE, arguments=()))
HERE = Attempt(upstream="engine", local=True, outcome="ok", milliseconds=1)
ELSEWHERE = replace(HERE, local=False)


def measured(lock: ModelLock) -> MeasuredModel:
    model = lock.measured
    assert model is not None
    return model


def parts_with(folder: Path, lock: ModelLock | None, **changes: Any) -> NotaryParts:
    """Parts of a notary whose starts note RTMR3's events in one file."""
    parts = notary_parts(folder, **changes)
    model = None if lock is None else measured(lock)
    return with_model(parts, model, folder / "rtmr3.json")


def with_model(parts: NotaryParts, model: MeasuredModel | None, log: Path) -> NotaryParts:
    return replace(parts, plan=replace(parts.plan, model=model, runtime_log=log))


def shown_events(notary: LocalNotary) -> list[str]:
    record = notary.boot.evidence.event_log
    assert record is not None
    return [event.name for event in record.parse().events]


async def test_model_and_arguments_are_measured_before_the_keys(tmp_path: Path) -> None:
    notary = await LocalNotary.start(parts_with(tmp_path, LOCK))
    assert shown_events(notary) == ["model.lock", "engine.args", "receipt.key"]
    assert notary.boot.evidence.statement.model_digest == LOCK.digest
    claims = parse_receipt((await sealed(notary, attempts=(HERE,))).token).claims
    assert claims.model.digest == LOCK.digest
    assert claims.model.configuration == ENGINE.arguments_digest
    assert claims.model.engine == "vllm/0.32.0"
    assert claims.attempts == (HERE,)
    await notary.close()


async def test_receipt_of_an_engine_elsewhere_does_not_name_the_model(tmp_path: Path) -> None:
    notary = await LocalNotary.start(parts_with(tmp_path, LOCK))
    claims = parse_receipt((await sealed(notary, attempts=(ELSEWHERE,))).token).claims
    assert claims.model.digest is claims.model.configuration is None
    await notary.close()


async def test_second_start_in_a_td_measures_the_model_no_second_time(tmp_path: Path) -> None:
    parts = parts_with(tmp_path, LOCK)
    await (await LocalNotary.start(parts)).close()
    notary = await LocalNotary.start(parts)
    assert shown_events(notary) == ["model.lock", "engine.args", "receipt.key", "receipt.key"]
    assert notary.boot.evidence.statement.model_digest == LOCK.digest
    await notary.close()


@pytest.mark.parametrize(
    ("first", "second"), [(LOCK, OTHER), (LOCK, None), (None, LOCK)], ids=["other", "none", "late"]
)
async def test_second_start_with_another_model_is_refused_before_it_extends_anything(
    tmp_path: Path, first: ModelLock | None, second: ModelLock | None
) -> None:
    parts = parts_with(tmp_path, first)
    await (await LocalNotary.start(parts)).close()
    before = parts.provider.read_rtmr3()
    log = (tmp_path / "rtmr3.json").read_bytes()
    model = None if second is None else measured(second)
    with pytest.raises(UnavailableError) as refusal:
        await LocalNotary.start(with_model(parts, model, tmp_path / "rtmr3.json"))
    assert refusal.value.code == "rtmr3"
    assert "measured another model" in refusal.value.message
    assert parts.provider.read_rtmr3() == before
    assert (tmp_path / "rtmr3.json").read_bytes() == log


async def test_without_rtmr3_nothing_names_the_model_and_the_log_says_so(tmp_path: Path) -> None:
    told: list[tuple[str, Any]] = []
    parts = parts_with(
        tmp_path,
        LOCK,
        provider=open_provider("simulated:?rtmr3=off"),
        emit=lambda event, **fields: told.append((event, fields)),
    )
    notary = await LocalNotary.start(parts)
    assert notary.boot.evidence.statement.model_digest is None
    claims = parse_receipt((await sealed(notary, attempts=(HERE,))).token).claims
    assert claims.model.digest is claims.model.configuration is None
    assert not claims.attempts[0].local
    assert ("model.unmeasured", {"digest": LOCK.digest.hex}) in told
    await notary.close()


class Forgetful:
    """A platform that takes events and measures others: the model's are lost on the way."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def extend_rtmr3(self, digest: bytes, *, name: str, content: bytes) -> None:
        if name != "model.lock":
            self._inner.extend_rtmr3(digest, name=name, content=content)


def test_start_whose_event_was_lost_is_refused(tmp_path: Path) -> None:
    parts = parts_with(tmp_path, LOCK)
    with pytest.raises(UnavailableError) as refusal:
        start_boot(Forgetful(parts.provider), parts.plan, BootSecrets.draw())
    assert refusal.value.code == "rtmr3"


@pytest.mark.parametrize(
    ("other", "expected", "observed"),
    [
        (
            replace(measured(LOCK), arguments_digest=Digest.of(b"other")),
            f"engine arguments {Digest.of(b'other')}",
            f"engine arguments {ENGINE.arguments_digest}",
        ),
        (
            replace(measured(LOCK), digest=Digest.of(b"other")),
            f"model {Digest.of(b'other')}",
            f"model {LOCK.digest}",
        ),
        (
            None,
            "no model, no engine arguments",
            f"model {LOCK.digest}, engine arguments {ENGINE.arguments_digest}",
        ),
    ],
)
def test_refusal_of_a_log_that_names_another_model_shows_what_differs(
    tmp_path: Path, other: MeasuredModel | None, expected: str, observed: str
) -> None:
    parts = parts_with(tmp_path, LOCK)
    started = start_boot(parts.provider, parts.plan, BootSecrets.draw())
    with pytest.raises(UnavailableError) as refusal:
        _require_one_model(started.evidence, started.quote, other)
    assert (refusal.value.expected, refusal.value.observed) == (expected, observed)


# The file that the settings name


def settings(lock: Path | None, engine: str | None = None) -> Settings:
    return Settings.model_validate(
        {
            "upstream": {"uds": "/run/engine.sock", "engine": engine},
            "model": {"lock": lock},
            "access": {"keys_file": "k"},
            "notary": {"data_dir": "d"},
            "evidence": {"provider": "simulated:"},
        }
    )


def test_settings_without_a_lock_measure_nothing() -> None:
    assert load_measured_model(settings(None)) is None


@pytest.mark.parametrize("engine", [None, "vllm/0.32.0"])
def test_lock_in_the_settings_is_what_is_measured(tmp_path: Path, engine: str | None) -> None:
    path = tmp_path / "model.lock"
    path.write_bytes(LOCK.canonical)
    assert load_measured_model(settings(path, engine)) == LOCK.measured


@pytest.mark.parametrize(
    ("content", "engine", "error"),
    [
        pytest.param(None, None, UnavailableError, id="absent"),
        pytest.param(LOCK.canonical + b"\n", None, MalformedError, id="not-canonical"),
        pytest.param(replace(LOCK, engine=None).canonical, None, UsageError, id="no-engine"),
        pytest.param(LOCK.canonical, "vllm/0.31.0", UsageError, id="another-engine"),
    ],
)
def test_lock_that_cannot_stand_behind_receipts_prevents_the_start(
    tmp_path: Path, content: bytes | None, engine: str | None, error: type[AttestationError]
) -> None:
    path = tmp_path / "model.lock"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error):
        load_measured_model(settings(path, engine))


@pytest.mark.parametrize(
    ("here", "accepted"), [(None, True), ("vllm/0.32.0", True), ("x/1", False)]
)
def test_lock_speaks_of_the_engine_behind_the_unix_socket_among_several(
    tmp_path: Path, here: str | None, accepted: bool
) -> None:
    path = tmp_path / "model.lock"
    path.write_bytes(LOCK.canonical)
    several = Settings.model_validate(
        {
            "upstreams": [
                {"name": "there", "url": "http://127.0.0.1:1", "engine": "other/9"},
                {"name": "here", "uds": "/run/engine.sock", "engine": here},
            ],
            "model": {"lock": path},
            "access": {"keys_file": "k"},
            "notary": {"data_dir": "d"},
            "evidence": {"provider": "simulated:"},
        }
    )
    if accepted:
        assert load_measured_model(several) == LOCK.measured
        return
    with pytest.raises(UsageError, match="another engine than the model lock names"):
        load_measured_model(several)
