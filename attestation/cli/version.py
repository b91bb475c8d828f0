"""`attested version`: which program, and which parts the verdicts rest on."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

from attestation.bundle import SCHEMA as BUNDLE_SCHEMA
from attestation.cli.files import print_json, print_text
from attestation.policy import SCHEMA as POLICY_SCHEMA
from attestation.receipt.claims import EAT_PROFILE

if TYPE_CHECKING:
    import argparse

HELP = "show versions of the program and of what its verdicts rest on"

_DISTRIBUTION = "attested-gateway"
_PARTS = ("cryptography", "dcap-qvl", "pyjwt")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Print the versions."""
    versions = {name: _version_of(name) for name in (_DISTRIBUTION, *_PARTS)}
    versions["python"] = platform.python_version()
    formats = {"bundle": BUNDLE_SCHEMA, "policy": POLICY_SCHEMA, "receipt": EAT_PROFILE}
    if args.json:
        print_json({"versions": versions, "formats": formats})
    else:
        pairs = [*versions.items(), *formats.items()]
        print_text("".join(f"{name:<18}{value}\n" for name, value in pairs))
    return 0


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
