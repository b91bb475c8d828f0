"""`attested release pack|verify|log`: what a release of an image says, and whether it is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli import release_log, release_pack, release_verify
from attestation.cli.actions import configure_actions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from attestation.cli.main import Command

HELP = "check releases of the image: signed measurements, packs, and the log of all releases"

_DESCRIPTION = """\
A release is a signed statement (in-toto, DSSE, Ed25519) that names the artefacts of an image and
what they will measure.  All releases stand in an append-only log.  Nothing here asks whether the
image is a good one: rebuild it to see that it came from the source.
"""
_EPILOG = """\
examples:
  attested release verify release.dsse.json --signer release.vkey --log enclave_image/measurements
  attested release log enclave_image/measurements --signer release.vkey --before kept-checkpoint
  attested release pack model.raw --root "$ROOT"

`attested release ACTION --help` explains an action, with its exit codes.
"""
_ACTIONS: Mapping[str, Command] = {
    "pack": release_pack,
    "verify": release_verify,
    "log": release_log,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    configure_actions(parser, _ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for and return its exit code."""
    code: int = args.act(args)
    return code
