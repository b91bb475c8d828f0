"""A bundle as a tree of JSON values, for an attacker who writes the file anew after each change.

Such an attacker keeps what costs nothing: canonical bytes, arrays in order, collateral under its
own digest and named by it.  `rewrite` does all of that, so that a refusal is never owed to
sloppiness.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError

Path = tuple[str | int, ...]


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Return the path of every value below `value`, parents before children."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, child in items:
        yield (*at, name)
        yield from paths(child, (*at, name))


def named(path: Path) -> str:
    """Return a path as text."""
    return ".".join(str(name)[:24] for name in path)


def get(document: Any, path: Path) -> Any:
    """Return the value at `path`."""
    for name in path:
        document = document[name]
    return document


def put(document: Any, path: Path, value: Any) -> Any:
    """Return a copy of `document` with `value` at `path`."""
    changed = copy.deepcopy(document)
    get(changed, path[:-1])[path[-1]] = copy.deepcopy(value)
    return changed


def drop(document: Any, path: Path) -> Any:
    """Return a copy of `document` without what stands at `path`."""
    changed = copy.deepcopy(document)
    del get(changed, path[:-1])[path[-1]]
    return changed


def rename(document: Any, path: Path, name: str) -> Any:
    """Return a copy of `document` whose member at `path` has another name."""
    changed = copy.deepcopy(document)
    parent = get(changed, path[:-1])
    parent[name] = parent.pop(path[-1])
    return changed


def written_twice(document: Any, path: Path, second: Any) -> bytes:
    """Return canonical bytes but for one member, which stands twice, then as `second`."""
    return _write(document, (), path, second).encode()


def rewrite(document: Any) -> bytes | None:
    """Return the bytes of `document` after putting it in order; None if it has no such bytes."""
    changed = copy.deepcopy(document)
    try:
        _readdress(changed)
        keys = (("boots", _boot_key), ("epochs", epoch_key), ("receipts", receipt_key))
        for name, key in keys:
            if isinstance(changed.get(name), list):
                changed[name].sort(key=key)
    except (AttributeError, KeyError, TypeError, ValueError, MalformedError):
        # Too broken to be put in order: it goes to the parser as it is.
        changed = document
    return dump(changed)


def dump(document: Any) -> bytes | None:
    """Return the canonical bytes of `document` as it stands; None if it has none."""
    try:
        return jcs.canonicalize(document)
    except MalformedError:
        return None


def receipt_key(item: Any) -> tuple[bytes, int, bytes]:
    """Return what receipts are in order of."""
    signing_input = item["receipt"].rpartition(".")[0]
    claims = json.loads(base64url.decode(signing_input.partition(".")[2]))
    digest = Digest.of(signing_input.encode()).value
    return base64url.decode(claims["bootseed"]), claims["log"]["i"], digest


def epoch_key(epoch: Any) -> tuple[bytes, int, bytes]:
    """Return what epochs are in order of."""
    said = epoch["statement"]
    return bytes.fromhex(said["bootseed"]), said["epoch"], Digest.of(jcs.canonicalize(said)).value


def _boot_key(boot: Any) -> str:
    return str(boot["statement"]["bootseed"])


def _readdress(document: Any) -> None:
    named = {name: Digest.of(jcs.canonicalize(v)).hex for name, v in document["collateral"].items()}
    document["collateral"] = {named[name]: v for name, v in document["collateral"].items()}
    for item in (*document["boots"], *document["epochs"]):
        item["collateral"] = named.get(item["collateral"], item["collateral"])


def _write(value: Any, at: Path, twice: Path, second: Any) -> str:
    if isinstance(value, dict):
        members = []
        for name in sorted(value):
            members.append(f"{json.dumps(name)}:{_write(value[name], (*at, name), twice, second)}")
            if (*at, name) == twice:
                members.append(f"{json.dumps(name)}:{jcs.canonicalize(second).decode()}")
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        items = (_write(item, (*at, i), twice, second) for i, item in enumerate(value))
        return "[" + ",".join(items) + "]"
    return jcs.canonicalize(value).decode()
