"""Boot the image with what a host may slip in: `make image-injections`.

Each case ends in one of three ways, and says which: the guest's measurements change (a policy that
pins them refuses it), the guest takes no notice (its measurements and its boot are as without), or
the machine ends. A case that ends otherwise than it has to is a failure.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from image_boot import KERNEL_RUNS, compare, fetch_evidence, predict
from image_cases import Case, cases
from image_files import PROFILES, ImageError, artefact, cache, exclusive, output, say
from image_insider import Console, require_dormant, require_end
from image_machine import Machine, Plan, copy_sparse, free_port

from attestation.measure.compare import read_tpm_log
from attestation.measure.hostpart import LoggedEvent
from attestation.tdx.ccel import type_name

_BOOT_SECONDS = 900.0
_CORRUPTED = b"is corrupted"  # the kernel's dm-verity
_PANIC = b"Kernel panic - not syncing: dm-verity"
# What the image decides, and nobody else; nothing is predicted for 12 and 13, where systemd-stub
# measures what does not come with the UKI.
_OWN = frozenset({"pcr4", "pcr5", "pcr9", "pcr11"})
_ADDED = ("pcr12", "pcr13")


def differences(measurements: Path, log: Path) -> dict[str, list[str]]:
    """By register: the events that are not as predicted, in words."""
    seen = read_tpm_log(log.read_bytes())
    found: dict[str, list[str]] = {}
    for register in compare(measurements, log)["registers"]:
        name = register["name"]
        if name not in _OWN:
            continue
        for event in register["events"]:
            if event["match"] == "same":
                continue
            told = f"{event['match']} {event.get('name') or event.get('type') or ''}"
            found.setdefault(name, []).append(told.strip())
    for name in _ADDED:
        for number, event in enumerate(seen.get(name, ()), 1):
            found.setdefault(name, []).append(f"event {number}: {describe(event)}")
    return found


def describe(event: LoggedEvent) -> str:
    """The type of an event, and the text in it."""
    wide = event.data.decode("utf-16-le", errors="replace").strip("\0")
    plain = event.data.decode("utf-8", errors="replace").strip("\0")
    text = next((one for one in (wide, plain) if one and one.isascii() and one.isprintable()), "")
    return f"{type_name(event.type)} {text[:60]!r}" if text else type_name(event.type)


def require_registers(wanted: Iterable[str], found: Mapping[str, Sequence[str]]) -> str:
    """Exactly these registers are not as predicted, or `ImageError`; their events, in words."""
    told = "; ".join(f"{name.upper()}: {', '.join(events)}" for name, events in found.items())
    if set(wanted) != set(found):
        expected = ", ".join(sorted(wanted)) or "none"
        raise ImageError(f"expected other values of {expected}, seen {told or 'none'}")
    return told


def prepare(case: Case, profile: str, out: Path) -> Plan:
    """The machine that a case is booted in."""
    disk = artefact(output(profile), profile, "raw")
    if case.change is not None:
        changed = out / "changed.raw"
        copy_sparse(disk, changed)
        case.change(changed, out)
        disk = changed
    variables = None
    if case.variables is not None:
        variables = out / "vars.changed.fd"
        variables.write_bytes(case.variables((out / "vars.predicted.fd").read_bytes()))
    run = out / "run"
    return Plan(disk=disk, folder=run, port=free_port(), extra=case.extra, variables=variables)


def run_case(case: Case, profile: str, measurements: Path, out: Path) -> str:
    """Boot; how it ended, in words. `ImageError` if it ended otherwise than it has to."""
    plan = prepare(case, profile, out)
    with Machine(plan) as vm:
        vm.wait_console(KERNEL_RUNS, seconds=_BOOT_SECONDS)
        log = out / "tpm.log"
        log.write_bytes(vm.event_log())
        told = require_registers(case.registers, differences(measurements, log))
        if case.end == "measured":
            return told
        if case.end == "panic":
            return require_panic(vm)
        fetch_evidence(plan.port, _BOOT_SECONDS, vm)
        if case.end == "opened":
            return f"{told}; {require_end(vm)}"
        require_dormant(vm)
        fetch_evidence(plan.port, _BOOT_SECONDS, vm)
        return "measurements as predicted, and the gateway serves as without"


def require_panic(vm: Console) -> str:
    """The machine ends, for dm-verity's sake, or `ImageError`."""
    if not vm.wait_ended(_BOOT_SECONDS):
        raise ImageError("expected the machine to end, but it runs")
    console = vm.console()
    if _CORRUPTED not in console or _PANIC not in console:
        tail = console[-3000:].decode(errors="replace")
        raise ImageError(f"the machine ended, but not for dm-verity's sake; console:\n{tail}")
    return "measurements as predicted; dm-verity found it, the kernel panicked, the machine ended"


def run_all(chosen: Sequence[Case], profile: str, measurements: Path, out: Path) -> int:
    """Boot with each, print how it ended; how many failed."""
    failed = 0
    for case in chosen:
        begun = time.monotonic()
        told, end = "", "FAILED"
        try:
            told = run_case(case, profile, measurements, out)
            end = str(case.end)
        except ImageError as error:
            failed += 1
            told = str(error)
        seconds = time.monotonic() - begun
        print(f"{end:9} {case.name} ({seconds:.0f} s)\n          {told}", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    args = parser.parse_args()
    out = cache() / "injections" / args.profile
    out.mkdir(parents=True, exist_ok=True)
    folder = output(args.profile)
    try:
        with exclusive():
            measurements = predict(args.profile, folder, out)
            chosen = [c for c in cases(args.profile, folder, out) if args.only in c.name]
            failed = run_all(chosen, args.profile, measurements, out)
    except ImageError as error:
        say(str(error))
        return 1
    if not chosen:
        say(f"no case has {args.only!r} in its name")
        return 1
    say(f"{len(chosen) - failed} of {len(chosen)} injections ended as they have to")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
