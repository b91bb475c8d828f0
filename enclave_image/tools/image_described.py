"""What stands beside the artefacts of a build: its prediction for TDX, its SBOM, its firmware."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from image_files import REPOSITORY, ImageError, artefact, host

FIRMWARE = "OVMF.fd"
MEMORY = "64G"
_PLACE = "/usr/share/ovmf/OVMF.fd"


def describe(profile: str, folder: Path) -> None:
    """Write firmware, measurements.json and SBOM of a build into its folder.

    The firmware is the build environment's, copied so that the prediction's input is at hand.  The
    prediction is for a guest with `MEMORY`; its RTMR0 waits for what the host presents
    (`attested measure tdx --help`).  Raises `ImageError` with the command's own words.
    """
    copied = subprocess.run(
        host("cp", _PLACE, folder / FIRMWARE), capture_output=True, text=True, check=False
    )
    if copied.returncode:
        raise ImageError(f"expected {_PLACE} in the build environment: {copied.stderr.strip()}")
    attested(
        *("measure", "tdx", "--memory", MEMORY, "--firmware", folder / FIRMWARE),
        *("--uki", artefact(folder, profile, "efi"), "--disk", artefact(folder, profile, "raw")),
        *("-o", named(folder, profile, "measurements.json"), "--force"),
    )
    output = named(folder, profile, "sbom.cdx.json")
    output.unlink(missing_ok=True)
    python(
        *("enclave_image.publish", "sbom", "--version", version()),
        *("--manifest", artefact(folder, profile, "manifest")),
        *("--manifest", folder / "initrd.manifest"),
        *("--wheels", folder / "wheels.json", "-o", output),
    )


def named(folder: Path, profile: str, suffix: str) -> Path:
    """Where an artefact of a profile stands, whether it is there or not."""
    return folder / f"attested-gateway-{profile}.{suffix}"


def version() -> str:
    """The gateway's, of this checkout."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def attested(*arguments: str | Path, accept: tuple[int, ...] = (0,)) -> str:
    """Run the product's own command; its stdout."""
    return python("gateway.cli.main", *arguments, accept=accept)


def python(module: str, *arguments: str | Path, accept: tuple[int, ...] = (0,)) -> str:
    """Run a module of this checkout; its stdout.  `ImageError` if it ends in another code."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in accept:
        what = " ".join([module.rpartition(".")[2], *map(str, arguments[:2])])
        raise ImageError(f"{what}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
