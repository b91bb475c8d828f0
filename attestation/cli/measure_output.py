"""Where predictions go: `measurements.json`, and a summary for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from attestation.cli.files import STDIN, print_json, print_text, require_absent, save_bytes
from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.encoding.printable import printable
from attestation.measure.compare import unlogged_events
from attestation.measure.document import encode_measurements
from attestation.measure.prediction import Derivation
from attestation.tdx.ccel import type_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from attestation.measure.hostpart import LoggedEvent
    from attestation.measure.prediction import PredictedEvent, PredictedRegister, Prediction

_MAX_NAMED = 12


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Declare where the document goes."""
    add = parser.add_argument
    add("-o", "--output", metavar="OUT", default=STDIN, help="where to write (stdout)")
    add("--force", action="store_true", help="with -o: replace the file if there is one")
    add("--json", action="store_true", help="with -o: say as JSON what was written")


def require_writable(args: argparse.Namespace) -> None:
    """Refuse to overwrite a file, before anything is read."""
    if not args.force:
        require_absent(args.output)


def warn_of_another_machine(
    prediction: Prediction, observed: Mapping[str, Sequence[LoggedEvent]]
) -> None:
    """Say on stderr which computed events the log of an earlier boot does not have."""
    absent = unlogged_events(prediction, observed)
    if not absent:
        return
    total = sum(
        event.derivation is Derivation.COMPUTED
        for one in prediction.registers
        if one.name in observed
        for event in one.events
    )
    shown = ", ".join(absent[:_MAX_NAMED]) + (", …" if len(absent) > _MAX_NAMED else "")
    lines = (
        "attested: warning: --observed is the log of another machine",
        f"  seen     {len(absent)} of {counted(total, 'computed event')} not in it: {shown}",
        "           its events beside computed ones make registers that no machine may have",
        "  hint     take the log of a boot of this firmware, with this size of memory",
    )
    print("\n".join(map(printable, lines)), file=sys.stderr)


def deliver(prediction: Prediction, args: argparse.Namespace) -> None:
    """Write the document; if it does not go to stdout, say there what is in it."""
    data = encode_measurements(prediction)
    save_bytes(args.output, data, replace=args.force)
    if args.output == STDIN:
        return
    if args.json:
        print_json(_summary(prediction, data))
    else:
        print_text("\n".join(map(printable, _lines(prediction, data, args.output))) + "\n")


def _summary(prediction: Prediction, data: bytes) -> dict[str, Any]:
    return {
        "sha256": Digest.of(data).hex,
        "mrtd": {order.value: value.hex() for order, value in prediction.mrtd.items()},
        "registers": {
            one.name: None if one.value is None else one.value.hex() for one in prediction.registers
        },
        "unknown": [
            f"{one.name}: {event.name}"
            for one in prediction.registers
            for event in one.events
            if event.derivation is Derivation.UNKNOWN
        ],
    }


def _lines(prediction: Prediction, data: bytes, output: str) -> list[str]:
    lines = [f"{output}: {prediction.platform.value}, SHA-256 {Digest.of(data).hex}"]
    lines += [f"mrtd   {value.hex()} ({order.value})" for order, value in prediction.mrtd.items()]
    for register in prediction.registers:
        lines.append(f"{register.name:<6} {_value(register)}")
        lines += [
            f"  {number:>2}  {event.digest.hex()[:16] or '-':<16}  {event.derivation.value:<8}  "
            f"{_named(event)}: {event.source}"
            for number, event in enumerate(register.events, 1)
        ]
    return lines


def _named(event: PredictedEvent) -> str:
    # The gateway's own events of RTMR3 have no type of the TCG's.
    return f"{event.name} ({type_name(event.type)})" if event.type else event.name


def _value(register: PredictedRegister) -> str:
    if register.value is not None:
        return register.value.hex()
    unknown = sum(event.derivation is Derivation.UNKNOWN for event in register.events)
    if unknown:
        return f"no value: {counted(unknown, 'digest')} unknown"
    return "no value: what follows differs from boot to boot"
