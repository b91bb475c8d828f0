"""What is predicted: each register's events in their order, and how each digest was come by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.tdx.events import DIGEST_BYTES, extend

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attestation.measure.mrtd import PageOrder
    from attestation.tdx.runtime import MeasuredEvent

EV_SEPARATOR = 0x00000004
EV_EVENT_TAG = 0x00000006
EV_S_CRTM_VERSION = 0x00000008
EV_PLATFORM_CONFIG_FLAGS = 0x0000000A
EV_IPL = 0x0000000D
EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
EV_EFI_VARIABLE_BOOT = 0x80000002
EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
EV_EFI_GPT_EVENT = 0x80000006
EV_EFI_ACTION = 0x80000007
EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
EV_EFI_HANDOFF_TABLES2 = 0x8000000B
EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
RUNTIME_EVENT = 0


class Platform(StrEnum):
    """Where the measurements go: the RTMRs of a TDX guest, or the PCRs of a TPM."""

    TDX = "tdx"
    TPM = "tpm"


class Derivation(StrEnum):
    """How a digest was come by."""

    COMPUTED = "computed"
    """From the files that were given, by the rules of the formats."""
    GIVEN = "given"
    """From what the host's operator says the host will present, such as its ACPI tables."""
    OBSERVED = "observed"
    """Out of the event log of an earlier boot: trust on first use."""
    UNKNOWN = "unknown"
    """Not at all: something will be measured here, and any value would be made up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedEvent:
    """One extension that is expected: `name` says of what, `source` where the digest is from.

    `digest` is 48 bytes, or empty exactly where the derivation is UNKNOWN.
    """

    type: int
    name: str
    digest: bytes
    derivation: Derivation
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedRegister:
    """The events of one register in their order, such as "rtmr1" or "pcr4".

    `open`: more events follow that differ from boot to boot, such as those of keys.
    """

    name: str
    events: tuple[PredictedEvent, ...]
    open: bool = False

    @property
    def value(self) -> bytes | None:
        """The register after all events; None if a digest is unknown or more events follow."""
        if self.open or any(event.derivation is Derivation.UNKNOWN for event in self.events):
            return None
        value = bytes(DIGEST_BYTES)
        for event in self.events:
            value = extend(value, event.digest)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A file that the prediction rests on: what it is, its SHA-256 and its size in bytes."""

    name: str
    sha256: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Everything predicted of one machine.

    `mrtd` has a value for each order in which hosts add pages, and is empty for a TPM; `settings`
    are what was said besides files, such as the size of the memory.
    """

    platform: Platform
    inputs: tuple[Input, ...]
    settings: Mapping[str, str]
    mrtd: Mapping[PageOrder, bytes]
    registers: tuple[PredictedRegister, ...]

    def register(self, name: str) -> PredictedRegister | None:
        """Return the register of this name, None if nothing is predicted of it."""
        return next((one for one in self.registers if one.name == name), None)


def computed(kind: int, name: str, content: bytes, source: str) -> PredictedEvent:
    """Return the event whose digest is the SHA-384 of `content`."""
    return digested(kind, name, hashlib.sha384(content).digest(), source)


def digested(kind: int, name: str, digest: bytes, source: str) -> PredictedEvent:
    """Return the event whose digest was computed in another way, such as Authenticode."""
    return PredictedEvent(
        type=kind, name=name, digest=digest, derivation=Derivation.COMPUTED, source=source
    )


def given(kind: int, name: str, content: bytes, source: str) -> PredictedEvent:
    """Return the event that measures what the host's operator handed over."""
    return replace(computed(kind, name, content, source), derivation=Derivation.GIVEN)


def unknown(kind: int, name: str, source: str) -> PredictedEvent:
    """Return the event of which nobody has said what will be measured."""
    return PredictedEvent(
        type=kind, name=name, digest=b"", derivation=Derivation.UNKNOWN, source=source
    )


def separator(name: str = "separator") -> PredictedEvent:
    """Return the event by which the firmware hands over: four zero bytes."""
    return computed(EV_SEPARATOR, name, bytes(4), "four zero bytes")


def action(text: str) -> PredictedEvent:
    """Return the event of an action that the firmware names."""
    return computed(EV_EFI_ACTION, text, text.encode("ascii"), "the text of the action")


def runtime_events(events: Iterable[MeasuredEvent]) -> tuple[PredictedEvent, ...]:
    """Return what the gateway measures before its keys, for RTMR3."""
    return tuple(
        digested(RUNTIME_EVENT, event.name, event.digest, f"canonical JSON with {event.sha256.hex}")
        for event in events
    )


def described(name: str, data: bytes) -> Input:
    """Return the input that a file is."""
    return Input(name=name, sha256=Digest.of(data), size=len(data))
