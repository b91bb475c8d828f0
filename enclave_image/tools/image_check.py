"""Build the image again and compare every artefact bit by bit: `make image-check`.

The second build has another output folder, another umask and another time zone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from image_build import add_inputs, build, input_words
from image_files import (
    ARTEFACTS,
    PROFILES,
    ImageError,
    artefact,
    cache,
    exclusive,
    first_difference,
    host,
    output,
    say,
    sha256,
)

_SECTOR = 512
_UMASK = 0o077
_TIME_ZONE = "Pacific/Chatham"


def partition_at(disk: Path, offset: int) -> str:
    """The partition that a byte of the disk lies in, and where in it."""
    command = host("sfdisk", "--json", disk)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"partition table not readable: {done.stderr.strip()[:200]}"
    for part in json.loads(done.stdout)["partitiontable"]["partitions"]:
        start = part["start"] * _SECTOR
        if start <= offset < start + part["size"] * _SECTOR:
            return f"byte {offset - start} of partition {part.get('name', part['node'])}"
    return "outside of every partition"


def require_same_inputs(first: Path, second: Path) -> None:
    """Both builds had the same wheels in them, or `ImageError`: then a comparison says nothing."""
    one, other = (json.loads((folder / "wheels.json").read_text()) for folder in (first, second))
    changed = sorted(name for name in one | other if one.get(name) != other.get(name))
    if changed:
        raise ImageError(f"the checkout changed since make image: {', '.join(changed)}; build anew")


def compare(profile: str, first: Path, second: Path) -> list[str]:
    """Print a line for each artefact; what differs, as text."""
    differences = []
    for suffix in ARTEFACTS:
        one, other = (artefact(folder, profile, suffix) for folder in (first, second))
        at = first_difference(one, other)
        if at is None:
            print(f"identical  {sha256(one)}  {one.name} ({one.stat().st_size} bytes)")
            continue
        sizes = f"{one.stat().st_size} and {other.stat().st_size} bytes"
        where = f"; {partition_at(one, at)}" if suffix == "raw" else ""
        differences.append(f"{one.name}: first at byte {at}{where}; {sizes}")
        print(f"DIFFERENT  {differences[-1]}")
    return differences


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    add_inputs(parser)
    args = parser.parse_args()
    begun = time.monotonic()
    first = output(args.profile)
    # Another folder, so that paths of the build that got into an artefact show.
    second = cache() / "again" / args.profile
    try:
        artefact(first, args.profile, "raw")
        with exclusive():
            os.umask(_UMASK)
            os.environ["TZ"] = _TIME_ZONE
            time.tzset()
            build(args.profile, second, input_words(args), pinned=True)
        require_same_inputs(first, second)
        differences = compare(args.profile, first, second)
    except ImageError as error:
        say(str(error))
        return 1
    if differences:
        say(f"{len(differences)} artefacts differ; both builds are kept: {first} and {second}")
        return 1
    how = f"umask {_UMASK:03o}, {_TIME_ZONE}"
    say(f"rebuilt in {time.monotonic() - begun:.0f} s ({how}): every artefact is bit-identical")
    return 0


if __name__ == "__main__":
    sys.exit(main())
