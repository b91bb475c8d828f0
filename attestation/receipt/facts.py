"""What an engine's answer says about itself: model, token counts, finish reasons, errors.

Facts are the engine's word.  Anything that does not look as it should is left out.
"""

from __future__ import annotations

from typing import Any, Final

from attestation.receipt import text
from attestation.receipt.claims import Usage
from attestation.receipt.dialect import Dialect

ERROR: Final = "error"
_MAX_CHOICE_INDEX: Final = 1 << 16
_COUNTS: Final = {
    "input": ("prompt_tokens", "input_tokens"),
    "output": ("completion_tokens", "output_tokens"),
    "total": ("total_tokens",),
}


class FactSheet:
    """Facts gathered from one whole answer or from the events of a stream."""

    __slots__ = ("_counts", "_reasons", "error", "served")

    def __init__(self) -> None:
        self.served: str | None = None
        self.error = False
        self._counts: dict[str, int] = {}
        self._reasons: dict[int, str] = {}

    @property
    def usage(self) -> Usage | None:
        """Token counts: the last ones reported."""
        return Usage(**self._counts) if self._counts else None

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """The different finish reasons, in the order of the choices that first had them, at most
        three; then "error" if the engine reported one.
        """
        ordered = [self._reasons[index] for index in sorted(self._reasons)]
        different = tuple(dict.fromkeys(ordered))
        return (*different[: text.MAX_REASONS], *((ERROR,) if self.error else ()))

    def read_answer(self, dialect: Dialect, document: dict[str, Any]) -> None:
        """Take the facts of a whole answer."""
        self._read_object(document)
        if dialect is Dialect.RESPONSES and document.get("object") == "response":
            self._read_status(document)

    def read_event(self, dialect: Dialect, document: dict[str, Any]) -> None:
        """Take the facts of one event of a stream."""
        self._read_object(document)
        if dialect is Dialect.RESPONSES:
            response = _object(document.get("response"))
            self._read_object(response)
            self._read_status(response)
        elif dialect is Dialect.MESSAGES:
            self._read_object(_object(document.get("message")))
            self._note_reason(0, _object(document.get("delta")).get("stop_reason"))

    def _read_object(self, document: dict[str, Any]) -> None:
        if document.get("error") is not None or document.get("type") == ERROR:
            self.error = True
        if self.served is None:
            self.served = _text(document.get("model"))
        self._read_usage(_object(document.get("usage")))
        self._note_reason(0, document.get("stop_reason"))
        choices = document.get("choices")
        if isinstance(choices, list):
            for position, choice in enumerate(choices[:_MAX_CHOICE_INDEX]):
                self._read_choice(position, _object(choice))

    def _read_usage(self, usage: dict[str, Any]) -> None:
        for name, spellings in _COUNTS.items():
            for spelling in spellings:
                count = usage.get(spelling)
                if type(count) is int and 0 <= count <= text.MAX_INTEGER:
                    self._counts[name] = count

    def _read_choice(self, position: int, choice: dict[str, Any]) -> None:
        index = choice.get("index", position)
        if type(index) is int and 0 <= index < _MAX_CHOICE_INDEX:
            self._note_reason(index, choice.get("finish_reason"))

    def _read_status(self, response: dict[str, Any]) -> None:
        """A response finishes by its status; an incomplete one also says why."""
        if response.get("status") in ("completed", "incomplete", "failed", "cancelled"):
            self._note_reason(0, response["status"])
            self._note_reason(1, _object(response.get("incomplete_details")).get("reason"))

    def _note_reason(self, index: int, reason: object) -> None:
        if reason == ERROR:
            self.error = True
        elif isinstance(reason, str) and text.REASON.fullmatch(reason):
            self._reasons[index] = reason


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return text.fitting(text.CALLER_TEXT, value) if isinstance(value, str) else None
