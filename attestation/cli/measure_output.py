"""Where predictions go: `measurements.json`, and a summary for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attestation.cli.files import STDIN, print_json, print_text, require_absent, save_bytes
from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.encoding.printable import printable
from attestation.measure.document import encode_measurements
from attestation.measure.prediction import Derivation
from attestation.tdx.ccel import type_name

if TYPE_CHECKING:
    import argparse

    from attestation.measure.prediction import PredictedEvent, PredictedRegister, Prediction


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
