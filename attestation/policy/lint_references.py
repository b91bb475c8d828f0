"""Findings about the tuples of reference values of a policy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.policy.finding import Finding, error, note, warning
from attestation.statement.model_lock import MODEL_LOCK_EVENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attestation.policy.model import Policy, ReferenceValues

_ZERO_DIGEST = Digest(bytes(32))
_UNPINNED = {
    "config_digest": "the gateway's settings decide which engine it asks and what it keeps, and "
    "any settings would do",
    "origin": "a gateway of any name would do that runs this software",
}


def lint_references(policy: Policy) -> Iterator[Finding]:
    """Yield what there is to say about each tuple, and about tuples that say the same."""
    first: dict[ReferenceValues, str] = {}
    for index, values in enumerate(policy.reference_values):
        path = f"reference_values[{index}]"
        yield from _registers(values, path)
        yield from _rtmr3(values, path, unbound=policy.tdx.unbound_keys)
        yield from _statement(values, path)
        nameless = replace(values, name="")
        if nameless in first:
            yield warning(
                "same_tuple",
                path,
                f"it differs from {first[nameless]} in its name only",
                "remove one of them, or correct the values of one",
            )
        first.setdefault(nameless, path)


def _registers(values: ReferenceValues, path: str) -> Iterator[Finding]:
    if not any(values.mrtd):
        yield error(
            "zero_mrtd",
            f"{path}.mrtd",
            "no trust domain has an MRTD of zeroes: this is a placeholder",
            "put in the value of the image you reviewed",
        )
    for name in ("rtmr0", "rtmr1", "rtmr2"):
        if not any(getattr(values, name)):
            yield warning(
                "zero_register",
                f"{path}.{name}",
                "nothing was measured into this register: it says nothing about the software",
                "put in the value of an image that measures its boot, unless yours does not",
            )
    for name in ("mrowner", "mrownerconfig"):
        if any(getattr(values, name)):
            yield note(
                "owner",
                f"{path}.{name}",
                "the domain's owner field has to have this value, which the host chooses",
                "know what your host puts there",
            )


def _rtmr3(values: ReferenceValues, path: str, *, unbound: bool) -> Iterator[Finding]:
    events, path = f"{path}.events", f"{path}.rtmr3"
    if values.rtmr3 is None:
        if values.model is not None and MODEL_LOCK_EVENT not in {one.name for one in values.events}:
            yield error(
                "model_unlisted",
                events,
                f"a gateway with a measured model has the event {MODEL_LOCK_EVENT} in RTMR3, which "
                "this tuple does not list: no bundle is accepted",
                f"list {MODEL_LOCK_EVENT}, and whatever else is measured before the keys",
            )
        elif not values.events:
            yield note(
                "no_events",
                path,
                "nothing but the gateway's keys may be in RTMR3: no model, no engine arguments",
                "list events if your gateway measures them",
            )
    elif any(values.rtmr3):
        yield warning(
            "rtmr3_pinned",
            path,
            "keys that are bound to RTMR3 make another value at every start, so this one fits "
            "one boot, or software that binds no keys",
            'write rtmr3 = "replay", with the events before the keys',
        )
    elif not unbound:
        yield note(
            "rtmr3_zero",
            path,
            "zero binds no keys, which [tdx] unbound_keys refuses: no bundle can be accepted "
            "by this tuple, only a quote by itself",
            'write rtmr3 = "replay" for bundles',
        )


def _statement(values: ReferenceValues, path: str) -> Iterator[Finding]:
    for name, meaning in _UNPINNED.items():
        if getattr(values, name) is None:
            yield warning(
                f"no_{name}",
                f"{path}.{name}",
                meaning,
                f"pin {name}; `attested inspect` shows it (a tuple for quotes by themselves "
                "cannot)",
            )
    for name in ("config_digest", "model"):
        if getattr(values, name) == _ZERO_DIGEST:
            yield error(
                "zero_digest",
                f"{path}.{name}",
                "no content has this digest: this is a placeholder",
                "put in the digest you reviewed",
            )
    if values.model is None:
        yield note(
            "no_model",
            f"{path}.model",
            "any model would do: its name in a receipt is the engine's word",
            "pin model to the digest of a model.lock",
        )
