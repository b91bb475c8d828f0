"""`attested policy import`: somebody else's list of measurements as a policy of ours."""

from __future__ import annotations

import argparse

from attestation.cli.files import load_parsed, print_json, print_text
from attestation.encoding.digest import Digest
from attestation.policy.measurements_json import import_measurements
from attestation.policy.predicted import import_predicted

HELP = "make a policy from a measurements file; it goes to stdout"

FORMATS = {"attested-gateway": import_predicted, "flashbots": import_measurements}
_EPILOG = """\
`attested-gateway` is what `attested measure tdx` writes: registers with the events that they are
made of.  A register of which an event is unknown cannot be pinned.

`flashbots` is the measurements.json that cvm-reverse-proxy and attested-tls read: an array of
entries measurement_id, attestation_type ("dcap-tdx"), measurements.  There, an empty list, an
empty object or a register that is not named accepts anything.  Here each is an error: nothing
is imported that would accept more than the file names.  What the file does not say has the
strict value, and a comment says so.

exit codes:
  0   the policy was written
  13  the file is malformed, or would leave something open
  2   usage

examples:
  attested policy import measurements.json --format flashbots > policy.toml
  attested policy import measurements.json --format attested-gateway > policy.toml
  curl -fsS https://measurements.example/ | attested policy import - --format flashbots
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE", help='the measurements; "-" is stdin')
    parser.add_argument(
        "--format", choices=sorted(FORMATS), required=True, help="how it is written"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Print the policy."""
    text = load_parsed(args.file, FORMATS[args.format])
    if args.json:
        print_json({"policy": text, "policy_digest": Digest.of(text.encode()).hex})
    else:
        print_text(text)
    return 0
