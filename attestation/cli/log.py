"""`attested log verify|monitor`: check a whole log as anybody outside can."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attestation.cli.files import INSTANT, print_json, print_text, require_one_stdin
from attestation.cli.log_folder import (
    UNBORN,
    Place,
    Records,
    address_of,
    in_order_of_age,
    no_records,
    open_folder,
)
from attestation.cli.log_limits import add_limits, require_limits
from attestation.cli.log_look import monitor_log, verify_log
from attestation.cli.log_memory import StateFile
from attestation.cli.log_report import (
    INCOMPLETE,
    Looked,
    documents,
    render,
    render_records,
    worst,
)
from attestation.cli.main import describe
from attestation.cli.policy_source import add_policy_options, policy_from
from attestation.encoding.printable import printable
from attestation.errors import AttestationError, UnavailableError, UsageError
from attestation.report import render_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HELP = "check a whole log from outside: entries, tiles, checkpoint, and what it said before"

_DESCRIPTION = """\
Reads everything a gateway's log publishes and checks it: the checkpoint is signed by the log's
key, every entry hashes to its tile, every tile to the one above, and the top to the signed root.
"""
_MONITOR = """\
The same, and the log must continue the checkpoint it showed last time.  A log that became
shorter, or that signed two histories, gives exit 10, and the two signed checkpoints are kept
beside the state file: they prove it to anybody.  Only what is new is read again.

A new log where others were seen has to follow one of them, as a restarted gateway's does.  One
that does not gives exit 12 at every look until --accept-new-log accepts it: the gateway's data
was wiped, its chain of boots was cut, or it restarted more than once between two looks.
"""
_WHERE = """
DIR is a folder with `checkpoint` and `tile/`, a boot's folder, or a gateway's whole data folder.
URL is https://HOST[:PORT]/v1/log or where a copy of a log is served (needs the client extra).

The key comes from --vkey, from the boot in --bundle, or from the boot's evidence found beside
the log: that one is checked against its quote only with --policy (and --root, --at).
"""
_EXAMPLES = """
exit codes:
  0   everything holds; the key's quote was accepted, or nobody asked for that
  12  a boot left records but no log, a new log continues none of those seen (monitor), or
      --bundle is about other logs: nothing was checked
  10  the log contradicts itself, its signature, or what it showed before
  13  something is not of the form it should have
  14  the log cannot be reached, or not be read within --max-entries and --timeout
  11, 12, 15  as `attested verify` says about the quote of the log's key
  10, 13, 14  as there, before the log is read: a policy that --policy-signer refuses
  2   usage
"""
_EPILOG = (
    _WHERE
    + _EXAMPLES
    + """
examples:
  attested log verify data/0123456789abcdef
  attested log verify https://gateway:8443/v1/log --policy policy.toml
  attested log verify log/ --vkey 'gateway/0123456789abcdef+1a2b3c4d+ATbc...'
  attested log monitor https://gateway:8443/v1/log --state seen.json
  attested log monitor https://gateway:8443/v1/log --state seen.json --interval 60 --json
"""
)

_GOES_ON = frozenset({0, 12, 14, 15})
"""Nothing was found wrong with the log: a monitor looks again."""


def configure(
    parser: argparse.ArgumentParser,
    open_log: Callable[[str], list[Place]] = open_folder,
    read_records: Callable[[str], list[Records]] = no_records,
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """Declare the arguments and return where further actions can be added.

    `open_log` finds the logs at a folder or an address, `read_records` reads what the boots in a
    folder recorded, from which their logs were made.
    """
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(open_log=open_log, read_records=read_records)
    common = _common()
    actions = parser.add_subparsers(dest="action", required=True, metavar="verify|monitor")
    form: dict[str, Any] = {
        "parents": [common],
        "epilog": _EPILOG,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    actions.add_parser("verify", help="check a log", description=_DESCRIPTION, **form)
    monitor = actions.add_parser(
        "monitor", help="check a log again and again", description=_MONITOR, **form
    )
    monitor.add_argument("--state", metavar="FILE", required=True, help="where to remember")
    monitor.add_argument(
        "--interval", metavar="S", type=float, help="look every S seconds (once, for cron)"
    )
    monitor.add_argument(
        "--accept-new-log",
        action="store_true",
        help="accept, and remember, logs that continue none seen before",
    )
    monitor.add_argument("--whole", action="store_true", help="read every entry every time")
    return actions


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("log", metavar="DIR|URL", help="where the log is")
    key = common.add_mutually_exclusive_group()
    key.add_argument("--vkey", metavar="V", help="the log's verifier key (C2SP vkey)")
    key.add_argument("--bundle", metavar="FILE", help="bundle with the evidence of the log's boot")
    add_policy_options(add, "appraisal policy for the boot's quote (TOML)")
    add("--root", metavar="F", action="append", help="root certificate instead of Intel's")
    add("--at", metavar="T", help="instant to judge by: " + INSTANT)
    add("--endorsements", metavar="F", action="append", help="file or store to judge by instead")
    add_limits(add)
    add("--json", action="store_true", help="one JSON document on stdout")
    return common


def _require_one_stdin(args: argparse.Namespace) -> None:
    several = (args.policy_signer, args.root, args.endorsements)
    require_one_stdin(
        [args.bundle, args.policy, *(one for names in several for one in names or ())]
    )


def run(args: argparse.Namespace, sleep: Callable[[float], None] = time.sleep) -> int:
    """Look at every log once, or again and again; the worst exit code."""
    require_limits(args)
    _require_one_stdin(args)
    if args.policy_signer:
        # Before a log is read: a policy that is not authentic ends it, and with --vkey too.
        policy_from(args)
    if args.action == "verify":
        records = args.read_records(args.log)
        places = args.open_log(args.log)
        return _look(args, places, lambda place: verify_log(args, place), records)
    file = StateFile(args.state)
    if args.interval is None:
        return _watch(args, file)
    if not 1 <= args.interval <= 1e6:
        raise UsageError(
            "--interval is out of bounds", code="interval", expected="1 to 1,000,000 seconds"
        )
    if args.accept_new_log:
        raise UsageError(
            "--accept-new-log with --interval would accept every new log from now on",
            code="accept_new_log",
            hint="look once with --accept-new-log, then go on without",
        )
    while (code := _watch_on(args, file)) in _GOES_ON:
        sys.stdout.flush()
        sleep(args.interval)
    return code


def _watch(args: argparse.Namespace, file: StateFile) -> int:
    """Look once at every log, each look remembered as soon as it has held."""
    with file.locked():
        addresses = file.load().addresses
    places = in_order_of_age(args.open_log(args.log))
    address = address_of(args.log)
    # Of several logs at a new address each is the first.
    known_place = address in addresses

    def look(place: Place) -> Looked:
        with file.locked():
            looked, state = monitor_log(
                args, place, file, file.load(), address=address, known_place=known_place
            )
            file.store(state)
        return looked

    return _look(args, places, look)


def _watch_on(args: argparse.Namespace, file: StateFile) -> int:
    try:
        return _watch(args, file)
    except UnavailableError as error:
        # A log that does not answer now may do so next time; one that lies is the end.
        print(describe(error), file=sys.stderr)
        return error.exit_code


def _look(
    args: argparse.Namespace,
    places: Sequence[Place],
    check: Callable[[Place], Looked],
    records: Sequence[Records] = (),
) -> int:
    """Check every log there is; one that fails does not keep the others from being checked."""
    held: list[Looked] = []
    codes = [one.exit_code for one in records]
    missing = [place.name for place in places if place.missing]
    codes += [_tell_missing(name, records) for name in missing]
    for place in places:
        if place.missing:
            continue
        try:
            looked = check(place)
        except AttestationError as error:
            if len(places) == 1 and not records:
                raise
            print(f"{printable(place.name)}:\n{describe(error)}", file=sys.stderr)
            codes.append(error.exit_code)
        else:
            held.append(looked)
            codes.append(looked.exit_code)
        finally:
            place.close()
    _tell(args, held, records, missing, worst(codes))
    return worst(codes)


def _tell_missing(name: str, records: Sequence[Records]) -> int:
    """Say that a boot has no log, and return its exit code: 0 only if its records say why."""
    folder = Path(name).resolve().name
    if any(one.boot == folder and one.status == UNBORN for one in records):
        return 0
    print(
        f"{name!a} has no log: nothing of this boot is checked; its log/checkpoint was deleted, or "
        "it ended before it served anybody (`attested log export` makes the log anew)",
        file=sys.stderr,
    )
    return INCOMPLETE


def _tell(
    args: argparse.Namespace,
    held: Sequence[Looked],
    records: Sequence[Records],
    missing: Sequence[str],
    code: int,
) -> None:
    for looked in held:
        result = looked.key.result
        if result is not None and result.exit_code not in _GOES_ON:
            print(render_text(result, name=f"the boot of {looked.name}"), file=sys.stderr, end="")
    if args.json:
        print_json(documents(held, records, missing, code))
        return
    for looked in held:
        print_text(render(looked))
    for one in records:
        print_text(render_records(one, held))
