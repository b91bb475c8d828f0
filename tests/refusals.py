"""What a refusal was for: tests compare codes, never the wording of a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attestation.errors import AttestationError, MalformedError


def refusal(
    action: Callable[..., object],
    *args: Any,
    error: type[AttestationError] = MalformedError,
    **kwargs: Any,
) -> str:
    """Call `action`, which must raise exactly `error`, and return the code of that error."""
    with pytest.raises(error) as caught:
        action(*args, **kwargs)
    assert type(caught.value) is error
    assert str(caught.value)
    return caught.value.code
