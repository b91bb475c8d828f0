"""The signed statement of a release: which artefacts, and what they will measure.

An in-toto Statement v1 (in-toto/attestation, spec/v1/statement.md) whose subjects are the
artefacts by SHA-256, and whose predicate holds the predictions of `attested measure`, the packs
and the profile.  Format: docs/spec/releases.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits
from attestation.errors import EvidenceError, MalformedError
from attestation.measure.boot import DIRECT_SUFFIX
from attestation.measure.document import encode_measurements, parse_measurements
from attestation.measure.prediction import EV_EVENT_TAG
from attestation.release.dsse import MAX_PAYLOAD_BYTES, Envelope, verify_envelope
from attestation.release.packs import (
    PackDescription,
    PackKind,
    read_pack_description,
    require_packs_named,
)
from attestation.statement.common import Canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attestation.measure.prediction import Prediction
    from attestation.merkle.note import Vkey

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:attested-gateway:image-release:v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAX_SUBJECTS: Final = 64
MAX_MEASUREMENTS: Final = 64
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_LIMITS: Final = JsonLimits(max_bytes=MAX_PAYLOAD_BYTES, max_depth=12, max_members=1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Canonical):
    """A release of one image: `subjects` by name, `measurements` by the name of their machine.

    Each prediction was made of subjects and of nothing else; each pack is a subject, and its root
    hash stands on the command line that was measured.
    """

    version: str
    profile: str
    subjects: Mapping[str, Digest]
    measurements: Mapping[str, Prediction]
    packs: tuple[PackDescription, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the in-toto statement."""
        return {
            "_type": STATEMENT_TYPE,
            "predicate": {
                "measurements": {
                    name: jcs.parse_canonical(encode_measurements(one), _LIMITS)
                    for name, one in self.measurements.items()
                },
                "packs": [pack.to_json() for pack in self.packs],
                "profile": self.profile,
                "version": self.version,
            },
            "predicateType": PREDICATE_TYPE,
            "subject": [
                {"digest": {"sha256": digest.hex}, "name": name}
                for name, digest in sorted(self.subjects.items())
            ],
        }


def parse_release(data: bytes) -> Release:
    """Return the release that a statement is about.

    1. canonical JSON, closed, of both types; subjects in ascending order of their names
    2. each prediction has the form of `measurements.json`
    3. each kind of pack stands there once at most
    4. every input of a prediction and every pack is a subject, by digest
    5. each prediction's command line is the one whose digest it predicts, and names the root
       hashes of the packs, no more and no fewer

    Raises `MalformedError`; `EvidenceError` (code "release" or "pack_root") for 4 and 5.
    """
    members = Members(jcs.parse_canonical(data, _LIMITS, what="the release"), "release")
    members.text("_type", choices=(STATEMENT_TYPE,))
    members.text("predicateType", choices=(PREDICATE_TYPE,))
    subjects = _subjects(members.array("subject", max_items=MAX_SUBJECTS))
    predicate = members.object("predicate")
    found = Release(
        version=predicate.text("version", pattern=_NAME),
        profile=predicate.text("profile", pattern=_NAME),
        subjects=subjects,
        measurements=_measurements(predicate.mapping("measurements")),
        packs=tuple(map(read_pack_description, predicate.array("packs", max_items=2))),
    )
    predicate.close()
    members.close()
    require_consistent(found)
    return found


def require_consistent(release: Release) -> None:
    """Check steps 3 to 5 of `parse_release`; also before anything is signed."""
    kinds = [pack.kind for pack in release.packs]
    if len(set(kinds)) != len(kinds):
        raise _malformed("each kind of pack once", ", ".join(kinds))
    known = set(release.subjects.values())
    for pack in release.packs:
        _require_subject(known, pack.digest_of_file, f"the {pack.kind.value} pack")
    for name, prediction in release.measurements.items():
        if not prediction.inputs:
            raise _malformed("predictions that say what they were made of", f"none in {name}")
        for one in prediction.inputs:
            _require_subject(known, one.sha256, f"{one.name}, of which {name} was made,")
        require_packs_named(release.packs, _measured_line(name, prediction))


def verify_release(envelope: Envelope, vkeys: Sequence[Vkey]) -> tuple[Release, tuple[Vkey, ...]]:
    """Return the release in a signed envelope, and who of the listed keys signed it.

    1. the signature (`verify_envelope`), 2. the payload's type, 3. `parse_release`.
    Raises `EvidenceError` and `MalformedError`.
    """
    signers = verify_envelope(envelope, vkeys)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _malformed(PAYLOAD_TYPE, envelope.payload_type)
    return parse_release(envelope.payload), signers


def require_subject(release: Release, name: str, digest: Digest) -> None:
    """Check that an artefact is the subject of that name.  Raises `EvidenceError` ("release")."""
    expected = release.subjects.get(name)
    if expected != digest:
        raise EvidenceError(
            f"{name!a} is not the artefact of the release",
            code="release",
            expected=f"one of {', '.join(sorted(release.subjects))}"
            if expected is None
            else expected.hex,
            observed=digest.hex,
            hint="fetch it again, or rebuild it and compare",
        )


def pack_of(release: Release, kind: PackKind) -> PackDescription | None:
    """Return the pack of a kind, if the release has one."""
    return next((pack for pack in release.packs if pack.kind is kind), None)


def _subjects(values: list[Any]) -> dict[str, Digest]:
    found: dict[str, Digest] = {}
    last = ""
    for value in values:
        members = Members(value, "subject")
        name = members.text("name", pattern=_NAME)
        digest = members.object("digest")
        found[name] = digest.digest_hex("sha256")
        digest.close()
        members.close()
        if name <= last:
            raise _malformed("subjects in ascending order of their names", "another order")
        last = name
    if not found:
        raise _malformed("at least one subject", "none")
    return found


def _measurements(values: Mapping[str, Any]) -> dict[str, Prediction]:
    if not 1 <= len(values) <= MAX_MEASUREMENTS:
        raise _malformed(f"1 to {MAX_MEASUREMENTS} predictions", f"{len(values)}")
    # The name of a prediction is a member's name: it is read as the text that it is.
    names = [Members({"name": name}, "measurements").text("name", pattern=_NAME) for name in values]
    return {name: parse_measurements(jcs.canonicalize(values[name])) for name in names}


def _measured_line(name: str, prediction: Prediction) -> str:
    """Return the command line of a prediction, of whose events one has to be its digest."""
    line = prediction.settings.get("command_line", "")
    digests = [
        event.digest
        for register in prediction.registers
        for event in register.events
        if event.type == EV_EVENT_TAG and event.name == "command line"
    ]
    # What OVMF appends where it hands over an initrd stands in the event and not in the setting.
    fitting = [
        hashlib.sha384(f"{line}{suffix}\0".encode("utf-16-le")).digest()
        for suffix in ("", DIRECT_SUFFIX)
    ]
    if len(digests) != 1 or digests[0] not in fitting:
        raise EvidenceError(
            f"the command line that {name} tells is not the one that it predicts",
            code="release",
            expected="one event with the digest of settings.command_line",
            observed=f"{len(digests)} such events",
        )
    return line


def _require_subject(known: set[Digest], digest: Digest, what: str) -> None:
    if digest not in known:
        raise EvidenceError(
            f"{what} is no subject of the release",
            code="release",
            expected="every artefact to be named with its digest",
            observed=digest.hex,
        )


def _malformed(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "the release is malformed", code="release", expected=expected, observed=observed
    )
