"""An audit folder as `attested demo` leaves it, and the verdict on it.

bundle.json, policy.toml, root.pem and bodies/ID.request|response|engine.  `judge` is what
`attested verify bundle.json --policy policy.toml --root root.pem --contents bodies` does, without
a process for each case: the same parser, the same contents, the same pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attestation.bundle import parse_evidence
from attestation.encoding.strict_json import parse_json_object
from attestation.errors import MalformedError
from attestation.policy import Policy, parse_policy
from attestation.result import Verdict
from attestation.tdx.anchor import Anchor, parse_anchor
from attestation.verifier import BODY_CHECKS, Contents, verify

BUNDLE, POLICY, ROOT, BODIES = "bundle.json", "policy.toml", "root.pem", "bodies"

FOREIGN = 1
"""What `judge` returns for an exception that is not ours: the exit code of an internal error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFolder:
    """The evidence (bundle and bodies by file name) and the auditor's own policy, root and time."""

    bundle: bytes
    bodies: Mapping[str, bytes]
    policy: Policy
    anchors: tuple[Anchor, ...]
    at: int

    def but(self, bundle: bytes | None = None, **bodies: bytes | None) -> AuditFolder:
        """Return the folder with other evidence; a body that is None is taken away."""
        kept = {name: body for name, body in self.bodies.items() if name not in bodies}
        given = {name: body for name, body in bodies.items() if body is not None}
        return replace(
            self, bundle=self.bundle if bundle is None else bundle, bodies={**kept, **given}
        )

    def document(self) -> dict[str, Any]:
        """Return the bundle as a JSON value of its own, free to be changed."""
        return parse_json_object(self.bundle)


def load_folder(path: Path, at: int | None = None) -> AuditFolder:
    """Read a folder; `at` is by default a minute after its first boot said it started."""
    bundle = (path / BUNDLE).read_bytes()
    if at is None:
        at = parse_json_object(bundle)["boots"][0]["statement"]["time_claimed"] + 60
    return AuditFolder(
        bundle=bundle,
        bodies={file.name: file.read_bytes() for file in sorted((path / BODIES).iterdir())},
        policy=parse_policy((path / POLICY).read_bytes()),
        anchors=(parse_anchor((path / ROOT).read_bytes()),),
        at=at,
    )


def write_evidence(folder: AuditFolder, path: Path) -> None:
    """Write bundle and bodies; policy and root are the auditor's and do not change."""
    (path / BUNDLE).write_bytes(folder.bundle)
    (path / BODIES).mkdir(exist_ok=True)
    for stale in (path / BODIES).iterdir():
        stale.unlink()
    for name, body in folder.bodies.items():
        (path / BODIES / name).write_bytes(body)


def judge(folder: AuditFolder) -> int:
    """Return the exit code that `attested verify --contents` ends with for this folder."""
    try:
        bundle = parse_evidence(folder.bundle)
        known = {item.jti: Contents(demanded=BODY_CHECKS) for item in bundle.receipts}
        for name, body in folder.bodies.items():
            jti, _, kind = name.partition(".")
            before = known.get(jti, Contents(demanded=BODY_CHECKS))
            given: dict[str, Any] = {kind: body}
            known[jti] = replace(before, **given)
        return verify(bundle, folder.policy, folder.at, folder.anchors, known).exit_code
    except MalformedError:
        return Verdict.MALFORMED.exit_code
    except Exception:  # noqa: BLE001 - that nothing foreign escapes is what is being tested
        return FOREIGN
