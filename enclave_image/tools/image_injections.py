"""Boot the image with what a host may slip in: `make image-injections`.

Each case ends in one of three ways, and says which: the guest's measurements change (a policy that
pins them refuses it), the guest takes no notice (its measurements and its boot are as without), or
the guest does not start. A case that ends otherwise than it has to is a failure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from image_boot import KERNEL_RUNS, compare, fetch_evidence, predict
from image_files import PROFILES, ImageError, artefact, cache, host, output, say
from image_machine import Machine, Plan, copy_sparse, free_port

_BOOT_SECONDS = 900.0
_SECTOR = 512
_CORRUPTED = b"is corrupted"  # the kernel's dm-verity
_MARKER = "INJECTED-BY-THE-HOST"
_UNIT = (
    f"[Unit]\nDescription={_MARKER}\nDefaultDependencies=no\n[Service]\nExecStart=/usr/bin/kmod\n"
)
_DROP_IN = "[Unit]\nWants=x.service\n"
# With a console, so that one sees the kernel start where this takes the place of the image's own.
_OPENED = (
    "console=ttyS0 init=/bin/sh systemd.debug_shell"
    " LD_PRELOAD=/tmp/x.so PYTHONPATH=/tmp SSL_CERT_FILE=/tmp/x"
)
# A unit, and what has every boot start it. fw_cfg takes names of 55 bytes, 27 of them a prefix.
_CREDENTIALS = {
    "systemd.extra-unit.x.service": _UNIT,
    "systemd.unit-dropin.-.mount": _DROP_IN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One injection: QEMU's further arguments, or a change to a copy of the disk."""

    name: str
    end: str  # "measured", "ignored" or "refused"
    extra: tuple[str, ...] = ()
    change: Callable[[Path, Path], None] | None = None


def partitions(disk: Path) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of each partition, by name."""
    done = subprocess.run(
        host("sfdisk", "--json", disk), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ImageError(f"{disk.name}: {done.stderr.strip()}")
    found = json.loads(done.stdout)["partitiontable"]["partitions"]
    return {p["name"]: (p["start"] * _SECTOR, p["size"] * _SECTOR) for p in found}


def credential_arguments(folder: Path) -> tuple[str, ...]:
    """The credentials by both ways a host has: SMBIOS strings and fw_cfg files."""
    folder.mkdir(parents=True, exist_ok=True)
    words: list[str] = []
    for name, text in _CREDENTIALS.items():
        path = folder / name
        path.write_text(text)
        words += ["-fw_cfg", f"name=opt/io.systemd.credentials/{name},file={path}"]
        smbios = folder / f"{name}.smbios"
        smbios.write_text(f"io.systemd.credential:{name}={text}")
        words += ["-smbios", f"type=11,path={smbios}"]
    return tuple(words)


def put_on_esp(name: str, data: bytes) -> Callable[[Path, Path], None]:
    """A change that puts a file beside the UKI."""

    def change(disk: Path, folder: Path) -> None:
        offset, _ = partitions(disk)["esp"]
        source = folder / "injected"
        source.write_bytes(data)
        image = f"{disk}@@{offset}"
        parent = name.rpartition("/")[0]
        script = 'mmd -i "$1" "::/$2" 2>/dev/null || :; mcopy -o -i "$1" "$3" "::/$4"'
        done = subprocess.run(
            host("sh", "-c", script, "sh", image, parent, source, name),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise ImageError(f"mcopy: {done.stderr.decode(errors='replace')}")

    return change


def spoil_root(disk: Path, _: Path) -> None:
    """Change one byte of the root file system: in its superblock, which every boot reads."""
    offset, _size = partitions(disk)["root-x86-64"]
    with disk.open("r+b") as file:
        file.seek(offset + 1024 + 64)
        byte = file.read(1)
        file.seek(offset + 1024 + 64)
        file.write(bytes([byte[0] ^ 1]))


def cases(profile: str, folder: Path, out: Path) -> tuple[Case, ...]:
    """Every injection and how it has to end."""
    uki = artefact(folder, profile, "efi")
    return (
        Case(
            name="command line by SMBIOS, which systemd-stub adds outside of a TDX guest",
            end="measured",
            extra=("-smbios", f"type=11,value=io.systemd.stub.kernel-cmdline-extra={_OPENED}"),
        ),
        Case(
            name="command line by the loader: UKI started by QEMU with one of its own",
            end="measured",
            extra=("-kernel", str(uki), "-append", _OPENED),
        ),
        Case(
            name="credential beside the UKI on the ESP",
            end="measured",
            change=put_on_esp("EFI/BOOT/BOOTX64.EFI.extra.d/injected.cred", _UNIT.encode()),
        ),
        Case(name="one byte of the root file system", end="refused", change=spoil_root),
        Case(
            name="credentials by SMBIOS and fw_cfg: a unit of the host's",
            end="ignored",
            extra=credential_arguments(out / "credentials"),
        ),
    )


def differences(measurements: Path, log: Path) -> list[str]:
    """Events of what the image decides that are not as predicted, and further PCRs in use."""
    document = compare(measurements, log)
    own = {"pcr4", "pcr5", "pcr9", "pcr11", "pcr12", "pcr13"}
    return [
        f"{register['name']} {event['match']}: {event.get('event') or event.get('name') or ''}"
        for register in document["registers"]
        if register["name"] in own
        for event in register["events"]
        if event["match"] != "same"
    ]


def extra_registers(log: Path) -> list[str]:
    """PCRs 12 and 13, where systemd-stub measures what does not come with the UKI."""
    # Nothing of them is predicted, so that the comparison leaves them out.
    from attestation.measure.compare import read_tpm_log  # noqa: PLC0415 - for this alone

    found = read_tpm_log(log.read_bytes())
    return [f"{name}: {len(found[name])} events" for name in ("pcr12", "pcr13") if name in found]


def run_case(case: Case, profile: str, measurements: Path, out: Path) -> str:
    """Boot; how it ended, in words. `ImageError` if it ended otherwise than it has to."""
    disk = artefact(output(profile), profile, "raw")
    if case.change is not None:
        changed = out / "changed.raw"
        copy_sparse(disk, changed)
        case.change(changed, out)
        disk = changed
    plan = Plan(disk=disk, folder=out / "run", port=free_port(), extra=case.extra)
    with Machine(plan) as vm:
        vm.wait_console(KERNEL_RUNS, seconds=_BOOT_SECONDS)
        log = out / "tpm.log"
        log.write_bytes(vm.event_log())
        found = differences(measurements, log) + extra_registers(log)
        if case.end == "measured":
            if not found:
                raise ImageError(f"{case.name}: expected other measurements, seen the same")
            return "; ".join(found)
        if found:
            raise ImageError(f"{case.name}: expected the same measurements, seen {found}")
        if case.end == "refused":
            if not vm.wait_ended(_BOOT_SECONDS):
                raise ImageError(f"{case.name}: expected the machine to end, but it runs")
            if _CORRUPTED not in vm.console():
                raise ImageError(f"{case.name}: the machine ended, but not for dm-verity's sake")
            return "dm-verity found it, and the machine ended"
        fetch_evidence(plan.port, _BOOT_SECONDS, vm)
        if _MARKER.encode() in vm.console():
            raise ImageError(f"{case.name}: the host's unit was started")
        return "measurements as predicted, and the gateway serves without it"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    args = parser.parse_args()
    out = cache() / "injections" / args.profile
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    try:
        measurements = predict(args.profile, output(args.profile), out)
        chosen = [c for c in cases(args.profile, output(args.profile), out) if args.only in c.name]
    except ImageError as error:
        say(str(error))
        return 1
    for case in chosen:
        try:
            print(f"{case.end:9} {case.name}: {run_case(case, args.profile, measurements, out)}")
        except ImageError as error:
            failed += 1
            print(f"FAILED    {case.name}: {error}")
    say(f"{len(chosen) - failed} of {len(chosen)} injections ended as they have to")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
