"""Parts of genuine evidence in the place of others: between two receipts, between two bundles."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

from attestation.encoding import base64url, jcs
from attestation.encoding.strict_json import parse_json_object
from tests.tamper.cases import Case, Changes
from tests.tamper.document import get, named, paths, put
from tests.tamper.folder import AuditFolder


def between_receipts(folder: AuditFolder) -> Iterator[Case]:
    """Every member of every receipt entry exchanged with, or replaced by, another receipt's."""
    changes = Changes(folder)
    document, receipts = changes.document, changes.document["receipts"]
    for one, other in itertools.combinations(range(len(receipts)), 2):
        for path in paths(receipts[one]):
            if not _has(receipts[other], path):
                continue
            here, there = ("receipts", one, *path), ("receipts", other, *path)
            mine, theirs = get(document, here), get(document, there)
            for kind, changed in (
                ("receipts: exchanged", put(put(document, here, theirs), there, mine)),
                ("receipts: replaced", put(document, here, theirs)),
                ("receipts: replaced", put(document, there, mine)),
            ):
                yield changes.rewritten(
                    kind, f"{one} {other} {named(path)}", partial(dict, changed)
                )
        yield from _token_parts(changes, one, other)


def between_epochs(folder: AuditFolder) -> Iterator[Case]:
    """Every member of every epoch, at every depth, exchanged with or replaced by another's."""
    changes = Changes(folder)
    document, epochs = changes.document, changes.document["epochs"]
    for one, other in itertools.permutations(range(len(epochs)), 2):
        for path in paths(epochs[one]):
            here, there = ("epochs", one, *path), ("epochs", other, *path)
            mine, theirs = get(document, here), get(document, there)
            for kind, changed in (
                ("epochs: exchanged", put(put(document, here, theirs), there, mine)),
                ("epochs: replaced", put(document, here, theirs)),
            ):
                where = f"{one} {other} {named(path)}"
                yield changes.rewritten(kind, where, partial(dict, changed))
        copied = {**epochs[one], "quote": epochs[other]["quote"]}
        doubled = put(document, ("epochs",), [*epochs, copied])
        yield changes.rewritten("epochs: doubled", f"{one} {other}", partial(dict, doubled))


def between_bundles(folder: AuditFolder, other: AuditFolder) -> Iterator[Case]:
    """Every value that both bundles have in the same place, taken from the other bundle."""
    changes = Changes(folder)
    document, foreign = _aligned(folder.document()), _aligned(other.document())
    for path in paths(document):
        if _has(foreign, path):
            changed = _only_used(put(document, path, get(foreign, path)))
            yield changes.rewritten("bundles: replaced", named(path), partial(dict, changed))
    for kind, part in (("parts of the boot", ("boots", 0)), ("endorsements", ("collateral", "0"))):
        yield from _subsets(changes, document, foreign, part, f"bundles: {kind}")
    yield from _merged(changes, document, foreign)
    for name, body in folder.bodies.items():
        for theirs in other.bodies.values():
            if body != theirs:
                changed = {name: theirs}
                yield changes.bodies("bundles: bodies", name, partial(dict, changed))


def _subsets(
    changes: Changes, document: Any, foreign: Any, path: tuple[str | int, ...], kind: str
) -> Iterator[Case]:
    """Yield every choice of members at `path` that takes some of one bundle, some of the other."""
    mine, theirs = get(document, path), get(foreign, path)
    names = [name for name in mine if mine[name] != theirs[name]]
    for count in range(1, len(names) + 1):
        for taken in itertools.combinations(names, count):
            changed = put(document, path, {**mine, **{name: theirs[name] for name in taken}})
            if path[0] == "boots":
                yield changes.rewritten(kind, ", ".join(taken), partial(_only_used, changed))
                # Their quote may be judged by their endorsements: those come along.
                changed = put(changed, ("collateral", "0"), foreign["collateral"]["0"])
            yield changes.rewritten(kind, ", ".join(taken), partial(_only_used, changed))


def _merged(changes: Changes, document: Any, foreign: Any) -> Iterator[Case]:
    """Yield bundles with the other's boot, receipts or endorsements added, or in place of ours."""
    theirs = put(foreign, ("boots", 0, "collateral"), "1")
    together = {**document["collateral"], "1": foreign["collateral"]["0"]}
    their_epochs = [{**epoch, "collateral": "1"} for epoch in foreign["epochs"]]
    for kind, changed in (
        ("epochs added", {"epochs": document["epochs"] + their_epochs, "collateral": together}),
        ("epochs replaced", {"epochs": their_epochs, "collateral": together}),
        ("receipts added", {"receipts": document["receipts"] + foreign["receipts"]}),
        ("receipts replaced", {"receipts": foreign["receipts"]}),
        ("boot replaced", {"boots": theirs["boots"], "collateral": together}),
        (
            "everything added",
            {
                "boots": document["boots"] + theirs["boots"],
                "collateral": together,
                "receipts": document["receipts"] + foreign["receipts"],
            },
        ),
    ):
        merged = _only_used({**document, **changed})
        yield changes.rewritten(f"bundles: {kind}", "", partial(dict, merged))


def _token_parts(changes: Changes, one: int, other: int) -> Iterator[Case]:
    """Yield receipts with header, claims, single claims or signature of another receipt."""
    receipts = changes.document["receipts"]
    tokens = [receipts[index]["receipt"].split(".") for index in (one, other)]
    path = ("receipts", one, "receipt")
    for part in range(3):
        mixed = ".".join([*tokens[0][:part], tokens[1][part], *tokens[0][part + 1 :]])
        yield changes.value("receipts: parts of the token", path, mixed, f"part {part}")
    mine, theirs = (parse_json_object(base64url.decode(token[1])) for token in tokens)
    for claim in paths(mine):
        if _has(theirs, claim):
            data = jcs.canonicalize(put(mine, claim, get(theirs, claim)))
            token = ".".join((tokens[0][0], base64url.encode(data), tokens[0][2]))
            yield changes.value("receipts: claims", path, token, named(claim))


def _aligned(document: Any) -> Any:
    """Name collateral sets by number, so that two bundles have them in the same place."""
    numbers = {name: str(at) for at, name in enumerate(document["collateral"])}
    sets = {numbers[name]: value for name, value in document["collateral"].items()}
    for item in (*document["boots"], *document["epochs"]):
        item["collateral"] = numbers[item["collateral"]]
    return {**document, "collateral": sets}


def _only_used(document: Any) -> Any:
    """Leave out the sets that no quote names: the parser would refuse the file for those alone."""
    used = {item["collateral"] for item in (*document["boots"], *document["epochs"])}
    sets = document["collateral"]
    return {**document, "collateral": {name: v for name, v in sets.items() if name in used}}


def _has(value: Any, path: tuple[str | int, ...]) -> bool:
    try:
        get(value, path)
    except (KeyError, IndexError, TypeError):
        return False
    return True
