"""Boot the built image, compare its event log with the prediction, and chat: `make image-boot`.

1. Predict what the image will measure, from its artefacts alone.
2. Boot it: QEMU without KVM, OVMF, software TPM. No TDX: evidence is simulated.
3. Take the event log out of the guest's memory. It leads to the TPM's values of the PCRs that are
   predicted, and is compared with the prediction, event by event.
4. Send a chat to the gateway inside, verify the receipt outside. The GPU image finds no GPU here:
   instead of a chat, the machine has to end, and its port must never open.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import re
import shutil
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from image_described import attested
from image_files import (
    PROFILES,
    RECIPE,
    ImageError,
    artefact,
    cache,
    exclusive,
    host,
    output,
    say,
)
from image_machine import Machine, Plan, free_port
from image_tpm import require_replayed
from image_without_gpu import require_closed

from gateway.attester.simulated.platform import SimulatedPlatform

# Public, of the demo image: its evidence is simulated, and beside a TDX device it does not start.
DEMO_KEY = RECIPE / "demo.key"
KERNEL_RUNS = b"Linux version"
# Of PCR 1, and the host's: nobody predicts their digests here, and every one of them is logged.
HOST_EVENTS = (
    *("ACPI loader", "ACPI rsdp", "ACPI log", "ACPI tables"),
    *("variable BootOrder", "variables Boot####", "variables Boot####", "variables Boot####"),
)
_BOOT_SECONDS = 900.0


def predict(profile: str, folder: Path, out: Path) -> Path:
    """`attested measure tpm` over the artefacts."""
    variables = out / "vars.predicted.fd"
    copied = subprocess.run(
        host("cp", "/usr/share/OVMF/OVMF_VARS_4M.fd", variables), capture_output=True, check=False
    )
    if copied.returncode:
        raise ImageError(f"OVMF: {copied.stderr.decode(errors='replace')}")
    uki, disk = artefact(folder, profile, "efi"), artefact(folder, profile, "raw")
    measurements = out / "tpm.json"
    attested(
        *("measure", "tpm", "--uki", uki, "--disk", disk, "--variables", variables),
        *("-o", measurements, "--force"),
    )
    return measurements


def compare(measurements: Path, log: Path) -> dict[str, Any]:
    """`attested measure compare`, as its JSON document."""
    text = attested("measure", "compare", measurements, log, "--json", accept=(0, 10, 12))
    document: dict[str, Any] = json.loads(text)
    return document


def covered(measurements: Path) -> list[int]:
    """The PCRs of which something is predicted."""
    registers = json.loads(measurements.read_text())["registers"]
    return sorted(int(register["name"].removeprefix("pcr")) for register in registers)


def show_comparison(document: dict[str, Any]) -> tuple[int, int]:
    """Print every event that is not as predicted, by name; how many are, and how many not."""
    same = other = 0
    for register in document["registers"]:
        for event in register["events"]:
            if event["match"] == "same":
                same += 1
                continue
            other += 1
            names = " ".join(str(event.get(key) or "") for key in ("event", "name", "type"))
            print(f"  {register['name']} {event['match']}: {names.strip()}")
        print(register.get("explanation", register["name"]))
    return same, other


def fetch_evidence(port: int, seconds: float, machine: Machine) -> bytes:
    """The gateway's evidence as a bundle, once it answers."""
    # Whose key this connection has is judged by `attested call`, from the evidence.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
        try:
            connection.request("GET", "/v1/attestation?format=bundle")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            if machine.wait_ended(1.0):
                break
            continue
        finally:
            connection.close()
        if answer.status == 200:
            return body
    tail = machine.console()[-4000:].decode(errors="replace")
    raise ImageError(f"expected an answer of the gateway inside, seen none; console:\n{tail}")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _certificates(text: str) -> Iterator[x509.Certificate]:
    data = text.encode()
    if b"BEGIN" not in data and len(data) > 1000:
        try:
            data = base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
        except ValueError:
            return
    pattern = b"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----"
    for match in re.finditer(pattern, data, re.DOTALL):
        yield x509.load_pem_x509_certificate(match.group())


def find_root(evidence: bytes, seed: bytes) -> bytes:
    """The simulated root in the evidence, if its key is the one that `seed` leads to; PEM."""
    wanted = SimulatedPlatform(now=0, seed=seed).anchor.certificate.public_key()
    for text in _strings(json.loads(evidence)):
        for certificate in _certificates(text):
            if certificate.public_key() == wanted and certificate.issuer == certificate.subject:
                return certificate.public_bytes(Encoding.PEM)
    raise ImageError("the evidence does not hang under the root that the image's seed leads to")


def demo_seed() -> bytes:
    """The seed in the demo image's settings."""
    path = RECIPE / "mkosi.extra/usr/share/attested/gateway.toml"
    provider = tomllib.loads(path.read_text())["evidence"]["provider"]
    found = re.search(r"seed=([0-9a-f]{64,128})", provider)
    if found is None:
        raise ImageError(f"{path.name}: expected simulated:?seed=HEX, seen {provider}")
    return bytes.fromhex(found.group(1))


def chat(port: int, folder: Path, evidence: bytes) -> None:
    """A chat with the gateway inside; its receipt verified twice: at once, and from the files."""
    (folder / "root.pem").write_bytes(find_root(evidence, demo_seed()))
    (folder / "evidence.json").write_bytes(evidence)
    policy, root, kept = folder / "policy.toml", folder / "root.pem", folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    attested("pin", folder / "evidence.json", "--root", root, "-o", policy, "--force", accept=(15,))
    answer = attested(
        *("call", f"https://127.0.0.1:{port}", "--policy", policy, "--root", root),
        *("--key-file", DEMO_KEY, "--prompt", "Who are you?", "--out", kept),
        accept=(15,),
    )
    attested(
        *("verify", kept / "bundle.json", "--policy", policy, "--root", root),
        *("--contents", kept / "bodies"),
        accept=(15,),
    )
    print(f"the gateway inside answered {len(answer)} bytes; receipt verified outside (simulated)")


def boot(profile: str, finish: Callable[[Machine, Path], None]) -> None:
    """The whole of it; `ImageError` for whatever is not as it has to be.

    `finish` looks at what the machine does once its log was compared.
    """
    folder = output(profile)
    out = cache() / "boot" / profile
    out.mkdir(parents=True, exist_ok=True)
    measurements = predict(profile, folder, out)
    say(f"predicted: {measurements}")
    plan = Plan(disk=artefact(folder, profile, "raw"), folder=out / "run", port=free_port())
    begun = time.monotonic()
    with Machine(plan) as vm:
        vm.wait_console(KERNEL_RUNS, seconds=_BOOT_SECONDS)
        log = out / "tpm.log"
        events, values = vm.measured(covered(measurements))
        log.write_bytes(events)
        say(f"kernel runs after {time.monotonic() - begun:.0f} s; event log: {log}")
        require_replayed(events, values)
        names = ", ".join(map(str, values))
        print(f"the event log leads to the TPM's values of PCR {names} (SHA-384)", flush=True)
        document = compare(measurements, log)
        (out / "comparison.json").write_text(json.dumps(document, indent=1))
        same, other = show_comparison(document)
        print(f"{same} events as predicted, {other} named above", flush=True)
        finish(vm, out)
    refuse_unexplained(document)
    print(
        f"the {other} are the host's alone, in PCR 1, and taken as they are; PCR 0 is not predicted"
    )


def _serve(machine: Machine, out: Path) -> None:
    begun = time.monotonic()
    evidence = fetch_evidence(machine.plan.port, _BOOT_SECONDS, machine)
    say(f"the gateway answers {time.monotonic() - begun:.0f} s later")
    chat(machine.plan.port, out, evidence)


def _end(machine: Machine, _out: Path) -> None:
    print(require_closed(machine, _BOOT_SECONDS))


def _leave(_machine: Machine, _out: Path) -> None:
    """Nothing more: the log was what was asked for."""


def refuse_unexplained(document: dict[str, Any]) -> None:
    """All is as predicted but what the host alone decides, and that is all; or `ImageError`.

    So the comparison has to be incomplete (12), by these events and PCR 0, and by nothing else.
    """
    found = [
        f"{register['name']} {event['match']}: {event['name']}"
        for register in document["registers"]
        for event in register["events"]
        if event["match"] != "same" or event["derivation"] not in {"computed", "given"}
    ]
    wanted = [f"pcr1 filled: {name}" for name in HOST_EVENTS]
    missing = sorted(
        {"pcr4", "pcr5", "pcr9", "pcr11"} - {one["name"] for one in document["registers"]}
    )
    others, absent = document["not_predicted"], document["not_logged"]
    if found != wanted or others != ["pcr0"] or absent or missing or document["exit_code"] != 12:
        raise ImageError(
            f"expected {wanted}, and of PCR 0 alone no prediction; seen {found}, not predicted "
            f"{others}, not logged {absent + missing}, exit code {document['exit_code']}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--no-chat", action="store_true", help="compare the event log only")
    args = parser.parse_args()
    finish = _leave if args.no_chat else _end if args.profile == "gpu" else _serve
    try:
        with exclusive():
            boot(args.profile, finish)
    except ImageError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
