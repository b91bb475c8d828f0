"""GHSA-j3rq-4xjw-xg63: the same binary under another manifest passed, as only code was measured.

Lesson: what the software was told to do is part of what is pinned.  A tuple pins settings, name
of the log, image and model beside the registers, and all of one tuple counts.
"""

from __future__ import annotations

import pytest

from attestation.encoding.digest import Digest
from attestation.result import Verdict
from gateway.attester.simulated.facts import Domain
from tests.support.bundles import CONFIG_DIGEST, Gateway, failed

MODEL = Digest.of(b"model")
PINS = {
    "config_digest": f'"{CONFIG_DIGEST.hex}"',
    "origin": '"gateway.example"',
    "image": '"gateway:1"',
    "model": f'"{MODEL.hex}"',
}
FACTS = {"image": "gateway:1", "model_digest": MODEL}


def test_boot_that_agrees_in_everything_is_accepted() -> None:
    made = Gateway(statement_changes=FACTS)
    made.plain()
    assert made.verify(policy=made.policy(**PINS)).verdict is Verdict.SIMULATED


@pytest.mark.parametrize(
    "change",
    [
        {"config_digest": Digest.of(b"other settings")},
        {"image": "gateway:2"},
        {"image": None},
        {"model_digest": Digest.of(b"other model")},
        {"model_digest": None},
    ],
)
def test_genuine_boot_of_the_same_code_with_other_settings_is_not_accepted(
    change: dict[str, object],
) -> None:
    made = Gateway(statement_changes=FACTS | change)
    made.plain()
    result = made.verify(policy=made.policy(**PINS))
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"MEASUREMENTS"}


def test_registers_of_one_tuple_with_settings_of_another_are_not_accepted() -> None:
    made = Gateway(statement_changes=FACTS)
    made.plain()
    other = "\n".join(
        [
            '[[reference_values]]\nname = "other"',
            *(f'{name} = "{"ab" * 48}"' for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2")),
            'rtmr3 = "replay"',
            *(f"{name} = {value}" for name, value in PINS.items()),
        ]
    )
    policy = made.policy(more=other, **(PINS | {"image": '"gateway:2"'}))
    assert failed(made.verify(policy=policy)) == {"MEASUREMENTS"}


@pytest.mark.parametrize("name", ["mr_config_id", "mr_owner", "mr_owner_config"])
def test_configuration_registers_are_pinned_to_zero_unless_said(name: str) -> None:
    platform = Gateway().machine
    domain = Domain(**{name: b"\x01" * 48})  # type: ignore[arg-type]
    made = Gateway(platform=platform.but(domain=domain))
    made.plain()
    assert failed(made.verify(policy=Gateway().policy())) == {"MEASUREMENTS"}
