"""The boot statement: the first thing a boot has quoted, and leaf 0 of its log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding.members import Members
from attestation.errors import MalformedError
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note
from attestation.statement.common import (
    LOG_ORIGIN,
    Canonical,
    digest_or_null,
    hex_or_null,
    read_bootseed,
)
from attestation.tdx.events import MAX_EVENTS
from attestation.tdx.runtime import parse_measured_events

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from attestation.encoding.strict_json import JsonValue
    from attestation.tdx.runtime import MeasuredEvent

PURPOSE: Final = "attested-gateway/boot/v1"
_IMAGE: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,256}", re.ASCII)
_MAX_CHECKPOINT_CHARS: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousBoot:
    """The last checkpoint (note text, with signatures) of the boot before, and the digest of the
    signed region of that boot's quote.
    """

    checkpoint: str
    quote_digest: Digest

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"checkpoint": self.checkpoint, "quote_digest": self.quote_digest.hex}


@dataclass(frozen=True, slots=True, kw_only=True)
class BootStatement(Canonical):
    """One start of the notary: its seed (32 bytes), keys, log, measured settings and model.

    `time_claimed` is Unix seconds by the guest's clock, which the host controls.  `unextended` is
    what would have extended RTMR3 before the keys, on a platform that lets nobody extend it: the
    word of the software that made the statement, and of nobody else.
    """

    bootseed: bytes
    keyset_digest: Digest
    log_origin: str
    config_digest: Digest
    time_claimed: int
    model_digest: Digest | None = None
    image: str | None = None
    gpu_digest: Digest | None = None
    prev: PreviousBoot | None = None
    unextended: tuple[MeasuredEvent, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `unextended` is a member only where there is something in it."""
        stated = [event.to_json() for event in self.unextended]
        return {
            **({"unextended": stated} if stated else {}),
            "bootseed": self.bootseed.hex(),
            "config_digest": self.config_digest.hex,
            "gpu_digest": hex_or_null(self.gpu_digest),
            "image": self.image,
            "keyset_digest": self.keyset_digest.hex,
            "log_origin": self.log_origin,
            "model_digest": hex_or_null(self.model_digest),
            "prev": None if self.prev is None else self.prev.to_json(),
            "purpose": PURPOSE,
            "time_claimed": self.time_claimed,
        }


def parse_boot_statement(value: JsonValue) -> BootStatement:
    """Return the boot statement of a parsed JSON value: closed; the origin names the bootseed.

    Raises `MalformedError`.
    """
    members = Members(value, "the boot statement")
    members.text("purpose", choices=(PURPOSE,))
    statement = BootStatement(
        bootseed=read_bootseed(members),
        keyset_digest=members.digest_hex("keyset_digest"),
        log_origin=members.text("log_origin", pattern=LOG_ORIGIN),
        config_digest=members.digest_hex("config_digest"),
        time_claimed=members.integer("time_claimed"),
        model_digest=digest_or_null(members, "model_digest"),
        image=None if members.is_null("image") else members.text("image", pattern=_IMAGE),
        gpu_digest=digest_or_null(members, "gpu_digest"),
        prev=None if members.is_null("prev") else _previous(members.object("prev")),
        unextended=_unextended(members) if members.has("unextended") else (),
    )
    members.close()
    if not statement.log_origin.endswith("/" + statement.bootseed.hex()[:16]):
        raise MalformedError(
            "the boot statement names the log of another boot",
            code="log_origin",
            expected="an origin that ends in the first 16 digits of the bootseed",
        )
    return statement


def _unextended(members: Members) -> tuple[MeasuredEvent, ...]:
    events = parse_measured_events(members.array("unextended", max_items=MAX_EVENTS))
    if not events:
        raise MalformedError(
            "the boot statement lists no event that RTMR3 could not take",
            code="member_value",
            expected="at least one event, or no member unextended",
        )
    return events


def _previous(members: Members) -> PreviousBoot:
    previous = PreviousBoot(
        checkpoint=members.text("checkpoint", max_chars=_MAX_CHECKPOINT_CHARS),
        quote_digest=members.digest_hex("quote_digest"),
    )
    members.close()
    parse_checkpoint(parse_note(previous.checkpoint).text)
    return previous
