"""What one receipt costs, step by step, in processor time: beside one bare Ed25519 signature.

No socket, no disk, one thread.  Every step is run over the same thousand requests, several times;
the best time counts, because other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding.digest import Digest
from attestation.encoding.jwk import thumbprint
from attestation.receipt.payload import PayloadWriter, Place
from attestation.receipt.seal import SealContext, claims_of
from attestation.receipt.sealer import Sealer
from benchmarks.figures import publish
from benchmarks.load import requests
from benchmarks.machine import describe_machine
from gateway.notary.interface import SealedReceipt
from gateway.notary.wire import announcements, outcomes, receipts

SEED = 7
REQUESTS = 1000
ROUNDS = 15


def best_microseconds(step: Callable[[int], object], *, count: int, rounds: int) -> float:
    """Return the processor time of one call of `step`, which is told which of `count` it is."""
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        for number in range(count):
            step(number)
        times.append(time.thread_time() - began)
    return round(1e6 * min(times) / count, 2)


def steps(count: int) -> dict[str, Callable[[int], object]]:
    """Return what happens to a request in the notary, by name, in the order of its happening."""
    load = list(itertools.islice(requests(SEED), count))
    key = Ed25519PrivateKey.generate()
    kid = thumbprint(key.public_key().public_bytes_raw())
    context = _context()
    announced = [announcements.encode_announcement(one.announcement) for one in load]
    told = [outcomes.encode_outcome(one.outcome) for one in load]
    place = Place(
        issued_at=1_800_000_000,
        leaf=1,
        admission=0,
        call=1,
        previous=context.quote_digest,
        known={},
    )
    writer, sealer = PayloadWriter(context), Sealer(context, key, kid)
    signed = [sealer.seal(one.outcome, place) for one in load]
    inputs = [one.token.rpartition(".")[0].encode("ascii") for one in signed]
    sealed = [
        SealedReceipt(
            jti=one.outcome.jti,
            token=receipt.token,
            openings=receipt.openings,
            index=1,
            digest=receipt.digest,
        )
        for one, receipt in zip(load, signed, strict=True)
    ]
    return {
        "bare Ed25519 signature": lambda n: key.sign(inputs[n]),
        "announcement read": lambda n: announcements.decode_announcement(announced[n]),
        "outcome read": lambda n: outcomes.decode_outcome(told[n], load[n].announcement),
        "commitments and payload": lambda n: writer.write(load[n].outcome, place),
        "the same by way of a tree": lambda n: claims_of(load[n].outcome, context)[0].encode(),
        "sealed: payload, signature, token": lambda n: sealer.seal(load[n].outcome, place),
        "reply written": lambda n: receipts.encode_sealed(sealed[n]),
    }


def _context() -> SealContext:
    return SealContext(
        issuer="bench.example",
        issued_at=1_800_000_000,
        bootseed=bytes(32),
        boot_secret=bytes(range(32)),
        keyset_digest=Digest.of(b"keyset"),
        debug="disabled",
        provider="simulated",
        quote_digest=Digest.of(b"quote"),
        log_origin="bench.example/" + "0" * 16,
        index=1,
        admission=0,
        call=0,
        previous=None,
    )


def run(*, count: int, rounds: int, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure every step; return the document and the rows of its table."""
    measured = {
        name: best_microseconds(step, count=count, rounds=rounds)
        for name, step in steps(count).items()
    }
    signature = measured["bare Ed25519 signature"]
    rows = [
        {"step": name, "us": taken, "signatures": round(taken / signature, 2)}
        for name, taken in measured.items()
    ]
    document = {
        "benchmark": "the steps of one receipt",
        "seed": SEED,
        "machine": describe_machine(folder),
        "steps": rows,
    }
    return document, rows


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where the JSON is kept")
    arguments = parser.parse_args()
    publish(*run(count=REQUESTS, rounds=ROUNDS, folder=Path.cwd()), arguments.out)


if __name__ == "__main__":
    main()
