"""The gateway's log: JSON lines whose every field is declared here, none of them free text.

A field has a shape, and a value of another shape is written as "?": an exception's text, a
header or a model name cannot get into a line even by mistake.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final, TextIO

import structlog

from attestation.receipt import text
from gateway.edge.routes import PATHS

_CODE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_ORIGIN = re.compile(r"[A-Za-z0-9._:/@-]{1,64}/[0-9a-f]{16}", re.ASCII)
_ADDRESS = re.compile(r"(https?://[A-Za-z0-9.:\[\]-]{1,128}|unix:/[\x21-\x7e]{1,200})", re.ASCII)
_HIDDEN: Final = "?"


def _matching(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _number(value: object) -> bool:
    return type(value) is int


def _route(value: object) -> bool:
    return isinstance(value, str) and value in PATHS


CODE: Final = _matching(_CODE)
HEX: Final = _matching(_HEX)
ORIGIN: Final = _matching(_ORIGIN)
ADDRESS: Final = _matching(_ADDRESS)
NUMBER: Final = _number
LABEL: Final = _matching(text.LABEL)
ROUTE: Final = _route

EVENTS: Final[dict[str, dict[str, Callable[[object], bool]]]] = {
    "boot.started": {"origin": ORIGIN, "keyset_digest": HEX, "provider": CODE},
    "boot.ended": {"reason": CODE},
    "boot.surveyed": {"boot": HEX, "status": CODE, "depth": CODE},
    "boot.unread": {"boot": HEX},
    "boot.fork": {"after": CODE, "boots": NUMBER},
    "condition.began": {"code": CODE},
    "condition.ended": {"code": CODE},
    "data.unknown": {"names": NUMBER, "other_layout": NUMBER},
    "log.retired": {"boots": NUMBER, "segments": NUMBER},
    "log.retention_failed": {"reason": CODE},
    "engine.unchecked": {"engine": LABEL},
    "epoch.failed": {"reason": CODE},
    "endorsements.absent": {"reason": CODE},
    "endorsements.against": {"digest": HEX, "reason": CODE},
    "endorsements.chosen": {"digest": HEX, "number": NUMBER, "until": NUMBER},
    "endorsements.refused": {"digest": HEX, "reason": CODE},
    "endorsements.unkept": {"reason": CODE},
    "gateway.awaited": {"address": ADDRESS},
    "gateway.refused": {"reason": CODE},
    "index.trouble": {"reason": CODE},
    "model.unmeasured": {"digest": HEX},
    "budgets.kept": {},
    "budgets.unkept": {"reason": CODE},
    "listening": {"address": ADDRESS},
    "notary.answers": {},
    "notary.slow": {"seconds": NUMBER},
    "request.ended": {
        "attempts": NUMBER,
        "decision": CODE,
        "end": CODE,
        "engine": LABEL,
        "first_milliseconds": NUMBER,
        "milliseconds": NUMBER,
        "receipt": HEX,
        "route": ROUTE,
        "span": HEX,
        "status": NUMBER,
        "trace": HEX,
    },
    "stopping": {"signal": NUMBER},
    "worker.died": {"worker": NUMBER, "code": NUMBER},
    "worker.started": {"worker": NUMBER, "pid": NUMBER},
    "internal_error": {"kind": CODE},
}


class Events:
    """Writes events to a stream, one JSON object a line; `clock` gives unix seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(stream),
            processors=[structlog.processors.JSONRenderer(sort_keys=True)],
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        )

    def emit(self, event: str, **fields: object) -> None:
        """Write a declared event with exactly its declared fields.

        A stream that takes nothing (a full disk, a pipe without a reader) loses the line and
        nothing else: what is being reported must still be dealt with.  Raises `KeyError` for an
        event or a field that is not declared: a programming error.
        """
        shapes = EVENTS[event]
        if fields.keys() != shapes.keys():
            raise KeyError(f"the event {event} has other fields")
        shown: dict[str, Any] = {
            name: value if shapes[name](value) else _HIDDEN for name, value in fields.items()
        }
        with contextlib.suppress(OSError):
            self._log.info(event, time=int(self._clock()), **shown)
