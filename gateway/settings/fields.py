"""Marks every setting as measured or not: does it change what a receipt promises?

A measured setting matters for confidentiality or integrity: its effective value, wherever it
came from, enters `config_digest` and with it the boot statement.  What is left out can make
the gateway slow or unreachable, but cannot make a receipt say something false or send a prompt
elsewhere.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

REQUIRED: Any = ...
_MARK = "measured"


class Section(BaseModel):
    """A table of settings: closed, frozen, and silent about values in its errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
        # TOML and text can say inf and nan, and both pass most bounds.
        allow_inf_nan=False,
    )


def measured(default: Any, description: str, **constraints: Any) -> Any:  # noqa: ANN401 - as Field
    """Declare a setting that enters `config_digest`."""
    return Field(default, description=description, json_schema_extra={_MARK: True}, **constraints)


def unmeasured(default: Any, description: str, **constraints: Any) -> Any:  # noqa: ANN401 - as Field
    """Declare a setting that stays outside `config_digest`."""
    return Field(default, description=description, json_schema_extra={_MARK: False}, **constraints)


def is_measured(field: FieldInfo) -> bool:
    """Return the mark of a field; a field without one is a programming error."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict) or not isinstance(extra.get(_MARK), bool):
        raise TypeError("a setting is declared without measured() or unmeasured()")
    return bool(extra[_MARK])
