"""Walking the tree of settings: its leaves by dotted name, with value and mark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.settings.fields import is_measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One setting: dotted name, effective value, and whether it enters `config_digest`."""

    path: str
    value: Any
    measured: bool

    @property
    def json_value(self) -> Any:  # noqa: ANN401 - any JSON value
        """The value as JSON writes it."""
        if isinstance(self.value, Path):
            return str(self.value)
        if isinstance(self.value, tuple):
            return list(self.value)
        return self.value


def declared(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting a model declares, sections first opened, by dotted name."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from declared(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def leaves(settings: BaseModel, prefix: str = "") -> Iterator[Leaf]:
    """Yield every setting of a tree with its effective value; in lists of tables, those of each
    table, with its number in the name.
    """
    for path, field in declared(type(settings)):
        value: Any = settings
        for part in path.split("."):
            value = getattr(value, part)
        if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for number, table in enumerate(value):
                yield from leaves(table, f"{prefix}{path}.{number}.")
        else:
            yield Leaf(path=f"{prefix}{path}", value=value, measured=is_measured(field))
