"""A CycloneDX document of what is in an image: Debian packages, wheels, and the gateway itself.

Source: CycloneDX 1.6, JSON (ECMA-424); package URLs by the purl specification, types `deb` and
`pypi`.  The same inputs give the same bytes: no time of its own, and a serial number out of them.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from attestation.encoding import jcs
from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import MalformedError

SPEC_VERSION = "1.6"
_LIMITS = JsonLimits(max_bytes=16 << 20, max_depth=8, max_members=200_000)
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)(?:\s*;\s*(.+?))?\s*\\?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\s*\\?")
_WHEEL = re.compile(r"([A-Za-z0-9._]+)-([A-Za-z0-9.!+_]+)(?:-[^-]+)?-[^-]+-[^-]+-[^-]+\.whl")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OWN = "attested-gateway"
_NAMESPACE = uuid.UUID("0b1f2b62-5d8b-5f0e-9c53-3c2a7d3b8a11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part: `purl` is its package URL, `hashes` the SHA-256 of the files it may come as."""

    name: str
    version: str
    purl: str
    hashes: tuple[str, ...] = ()
    marker: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the CycloneDX component."""
        value: dict[str, Any] = {
            "bom-ref": self.purl,
            "name": self.name,
            "purl": self.purl,
            "type": "library",
            "version": self.version,
        }
        properties = [{"name": "attested:archive-sha256", "value": one} for one in self.hashes]
        if self.marker:
            properties.append({"name": "attested:marker", "value": self.marker})
        if len(self.hashes) == 1:
            value["hashes"] = [{"alg": "SHA-256", "content": self.hashes[0]}]
        if properties:
            value["properties"] = properties
        return value


def components_of_manifest(manifest: bytes) -> list[Component]:
    """Return the packages of mkosi's JSON manifest.  Raises `MalformedError` for another form."""
    value = parse_json_object(manifest, _LIMITS)
    packages = value.get("packages")
    config = value.get("config")
    if not isinstance(packages, list) or not packages or not isinstance(config, dict):
        raise _malformed("the manifest", "mkosi's JSON manifest with config and packages")
    release = str(config.get("release", ""))
    return [_package(one, release) for one in packages]


def components_of_pins(text: str) -> list[Component]:
    """Return the pins of a hashed requirements file.

    Raises `MalformedError` for a line that is neither a pin, nor a hash, nor a comment, and for a
    pin without a hash.
    """
    found: list[Component] = []
    hashes: list[str] = []
    pin: tuple[str, str, str] | None = None
    for line in text.splitlines():
        stripped = line.partition(" #")[0].strip()
        if not stripped or stripped.startswith("#"):
            continue
        if match := _HASH.fullmatch(stripped):
            hashes.append(match[1])
            continue
        match = _PIN.fullmatch(stripped)
        if match is None:
            raise _malformed("the requirements", "NAME==VERSION and --hash=sha256:… lines")
        if pin is not None:
            found.append(_pinned(pin, hashes))
        pin, hashes = (match[1], match[2], match[3] or ""), []
    if pin is None:
        raise _malformed("the requirements", "at least one pin")
    return [*found, _pinned(pin, hashes)]


def components_of_wheels(data: bytes) -> list[Component]:
    """Return the wheels that an image was made of: its `wheels.json`, file names to SHA-256.

    Raises `MalformedError` for a name that is no wheel's, and for another form.
    """
    found: list[Component] = []
    for name, digest in parse_json_object(data, _LIMITS).items():
        match = _WHEEL.fullmatch(name)
        if match is None or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise _malformed("the list of wheels", "names of wheels with their SHA-256")
        found.append(_pinned((match[1], match[2], ""), [digest]))
    if not found:
        raise _malformed("the list of wheels", "at least one wheel")
    return found


def make_sbom(version: str, components: list[Component]) -> bytes:
    """Return the document: canonical JSON, components in the order of their package URLs.

    What is there twice, in the initrd and in the root file system, is listed once.  The gateway's
    own wheel becomes the document's subject.  Raises `MalformedError` if one package URL stands
    for two things, or if the gateway's wheel has another version.
    """
    own = f"pkg:pypi/{_OWN}@{version}"
    subject = [one for one in dict.fromkeys(components) if one.name == _OWN]
    if any(one.purl != own for one in subject) or len(subject) > 1:
        raise _malformed("the gateway's own wheel", f"version {version}, once")
    ordered = sorted(set(components) - set(subject), key=lambda one: one.purl)
    if len({one.purl for one in ordered}) != len(ordered):
        raise _malformed("the list of components", "each package URL for one thing")
    listed = [one.to_json() for one in ordered]
    about: dict[str, Any] = {
        "bom-ref": own,
        "name": _OWN,
        "purl": own,
        "type": "application",
        "version": version,
    }
    for one in subject:
        told = one.to_json()
        # One archive has one hash; a pin that allows several says which.
        name = "hashes" if "hashes" in told else "properties"
        about[name] = told[name]
    digest = hashlib.sha256(jcs.canonicalize([about, listed])).hexdigest()
    value: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "components": listed,
        "dependencies": [
            {"dependsOn": [one.purl for one in ordered], "ref": own},
            *({"ref": one.purl} for one in ordered),
        ],
        "metadata": {"component": about},
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "specVersion": SPEC_VERSION,
        "version": 1,
    }
    return jcs.canonicalize(value)


def _package(value: Any, release: str) -> Component:  # noqa: ANN401  (one parsed JSON value)
    fields = value if isinstance(value, dict) else {}
    texts = [fields.get(name) for name in ("name", "version", "architecture", "type")]
    name, version, architecture, kind = (one if isinstance(one, str) else "" for one in texts)
    if not name or not version or kind != "deb":
        raise _malformed("a package of the manifest", "type deb, name and version")
    purl = (
        f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}"
        f"?arch={quote(architecture, safe='')}&distro={quote(release, safe='')}"
    )
    return Component(name=name, version=version, purl=purl)


def _pinned(pin: tuple[str, str, str], hashes: list[str]) -> Component:
    name, version, marker = pin
    if not hashes:
        raise _malformed(f"the pin of {name}", "at least one hash")
    normal = re.sub(r"[-_.]+", "-", name).lower()
    return Component(
        name=normal,
        version=version,
        purl=f"pkg:pypi/{normal}@{quote(version, safe='')}",
        hashes=tuple(sorted(hashes)),
        marker=marker,
    )


def _malformed(what: str, expected: str) -> MalformedError:
    return MalformedError(f"{what} cannot be put into an SBOM", code="sbom", expected=expected)
