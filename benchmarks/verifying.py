"""Receipts and quotes verified a second on one core, and the memory of a long run.

1. receipts of one boot, from the bytes of a file to a verdict: with and without inclusion proofs,
   with and without bodies, beside bare Ed25519 verifications
2. quotes: by this package, which shows every signature itself and then asks dcap-qvl; beside
   dcap-qvl alone
3. a long run: `attested verify` over many files of one boot, its resident memory on the way

Every figure of 1 and 2 is processor time of one thread, the best of several rounds: other work on
the machine only ever adds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import dcap_qvl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.bundle import BundledReceipt, make_bundle, parse_bundle
from attestation.cli.progress import Counted
from attestation.tdx.dcap import verify_quote
from attestation.tdx.quote import parse_quote
from attestation.verifier import Contents, verify
from benchmarks.figures import publish
from benchmarks.machine import cpu_seconds, describe_machine, resident_mib
from tests.support.bundles import ANSWER, NOW, REQUEST, Gateway

AT = NOW + 60
RECEIPTS = 2000
QUOTES = 100
ROUNDS = 7
IN_ONE_FILE = 2000
FLAT = 1.1
"""How many times the memory after its first tenth a long run may have at its end.  A run of 10^6
receipts then keeps less than ten bytes of each.
"""
_SAMPLES = 20
_PROGRAM = "attestation.cli.main"
_PAUSE_SECONDS = 0.05


def best_seconds(step: Callable[[], object], rounds: int) -> float:
    """Return the processor time of a step, the best of `rounds`."""
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        step()
        times.append(time.thread_time() - began)
    return min(times)


# --- 1: receipts ---------------------------------------------------------------------------------


def receipts_a_second(count: int, rounds: int) -> list[dict[str, Any]]:
    """Return rows for files of `count` receipts, and for bare verifications of the same ones."""
    made = Gateway()
    for _ in range(count):
        made.plain()
    made.anchored()
    key = Ed25519PublicKey.from_public_bytes(made.receipt_jwk.raw)
    signed = [
        (one.item.receipt.jws.signature, one.item.receipt.jws.signing_input)
        for one in made.exchanged
    ]

    def bare() -> None:
        for signature, message in signed:
            key.verify(signature, message)

    alone = count / best_seconds(bare, rounds)
    rows = [_rate("bare Ed25519 verifications", alone, alone)]
    for proofs in (True, False):
        items = [one.item if proofs else replace(one.item, proof=None) for one in made.exchanged]
        data = made.bundle(receipts=items).encode()
        for bodies in (True, False):
            contents = made.contents() if bodies else {}
            seconds = best_seconds(partial(_accept, data, made, contents), rounds)
            name = f"{'anchored' if proofs else 'no proof'}, {'bodies' if bodies else 'no bodies'}"
            rows.append(_rate(name, count / seconds, alone))
    return rows


def _accept(data: bytes, made: Gateway, contents: dict[str, Contents]) -> None:
    result = verify(parse_bundle(data), made.policy(), AT, [made.anchor], contents)
    if result.verdict != "SIMULATED":
        raise RuntimeError(f"expected the receipts to verify, saw {result.verdict}")


def _rate(name: str, rate: float, alone: float) -> dict[str, Any]:
    return {
        "what": name,
        "per_second": round(rate),
        "us": round(1e6 / rate, 1),
        "times_bare": round(alone / rate, 2),
    }


# --- 2: quotes -----------------------------------------------------------------------------------


def quotes_a_second(count: int, rounds: int) -> list[dict[str, Any]]:
    """Return rows for a quote with its endorsements, and for dcap-qvl alone on the same."""
    made = Gateway()
    quote, collateral = parse_quote(made.evidence.quote), made.machine.collateral()
    foreign = dcap_qvl.QuoteCollateralV3(
        **{
            name: getattr(collateral, name)
            for name in (
                "pck_crl_issuer_chain", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain",
                "tcb_info", "tcb_info_signature", "qe_identity_issuer_chain", "qe_identity",
                "qe_identity_signature",
            )
        }
    )  # fmt: skip
    verifier = dcap_qvl.QuoteVerifier(made.anchor.root_der)

    def alone() -> None:
        for _ in range(count):
            policy = dcap_qvl.QuotePolicy.claims_only(AT)
            verifier.verify_with_policy(quote.raw, foreign, AT, policy)

    def ours() -> None:
        for _ in range(count):
            verify_quote(quote, collateral, AT, made.anchor)

    data = made.bundle(receipts=[]).encode()

    def boots() -> None:
        for _ in range(count):
            verify(parse_bundle(data), made.policy(), AT, [made.anchor], {})

    bare = count / best_seconds(alone, rounds)
    return [
        _rate("bare dcap-qvl", bare, bare),
        _rate("quote and endorsements", count / best_seconds(ours, rounds), bare),
        _rate("boot: file, quote, log, policy", count / best_seconds(boots, rounds), bare),
    ]


# --- 3: a long run -------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Month:
    """`receipts` of one boot, in files of `size`; one file is on the disk at a time.

    The files are pipes: their reader gets each when it opens it, so that a run of any length
    takes no disk.
    """

    folder: Path
    receipts: int
    size: int
    program: str = _PROGRAM

    def __post_init__(self) -> None:
        self.made = Gateway()
        last = -(-self.receipts // self.size)
        self.files = [self.folder / f"{number:05}.json" for number in range(last)]
        for file in self.files:
            os.mkfifo(file)
        root = self.made.anchor.certificate.public_bytes(Encoding.PEM)
        (self.folder / "root.pem").write_bytes(root)
        (self.folder / "policy.toml").write_text(self.made.policy_toml(), encoding="utf-8")

    @property
    def command(self) -> list[str]:
        """The run that reads them."""
        grounds = ["--policy", f"{self.folder}/policy.toml", "--root", f"{self.folder}/root.pem"]
        return [
            sys.executable, "-m", self.program, "verify", *map(str, self.files),
            *grounds, "--at", str(AT), "--json",
        ]  # fmt: skip

    def write(self) -> Iterator[int]:
        """Write file after file; yield how many receipts there were in each."""
        first = 1
        for file in self.files:
            count = min(self.size, self.receipts + 1 - first)
            items = [self._receipt(index) for index in range(first, first + count)]
            bundle = make_bundle(
                boots=[self.made.evidence],
                collateral=[self.made.machine.collateral()],
                receipts=items,
            )
            file.write_bytes(bundle.encode())
            first += count
            yield count

    def _receipt(self, index: int) -> BundledReceipt:
        outcome = self.made.outcome(REQUEST, ANSWER, jti=f"{index:032x}")
        return self.made.seal(outcome, index=index, admission=index - 1, issued_at=NOW)


def long_run(receipts: int, size: int, program: str = _PROGRAM) -> dict[str, Any]:
    """Return what a run over that many receipts took, and its memory on the way.

    The verifier is a process of its own; this one makes its files.
    """
    with tempfile.TemporaryDirectory() as name:
        month = Month(folder=Path(name), receipts=receipts, size=size, program=program)
        with subprocess.Popen(month.command, stdout=subprocess.DEVNULL) as child:
            samples = _samples(month, child.pid)
            seconds = 0.0
            while child.poll() is None:
                seconds = cpu_seconds(child.pid)
                time.sleep(_PAUSE_SECONDS)
    if child.returncode != 15:
        raise RuntimeError(f"expected the run to end in 15, saw {child.returncode}")
    every = max(1, len(samples) // _SAMPLES)
    return {
        "receipts": receipts,
        "receipts_in_a_file": size,
        "cpu_seconds": round(seconds, 1),
        "receipts_per_cpu_second": round(receipts / seconds),
        "memory": samples[::every],
        "most_mib": max((one["rss_mib"] for one in samples), default=0.0),
        "growth": growth(samples),
    }


def _samples(month: Month, verifier: int) -> list[dict[str, Any]]:
    """Feed the verifier; return its memory after each file but the last."""
    samples, done = [], 0
    progress = Counted("verified receipts", month.receipts, spell="{:,.0f}".format)
    for count in month.write():
        # The pipe is read to its end: all files before this one are verified.
        if done:
            samples.append({"receipts": done, "rss_mib": resident_mib(verifier)})
        done += count
        progress.add(count)
    progress.close()
    return samples


def growth(samples: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how the memory at the end compares with that after the first tenth of a run.

    Each is the median of a tenth of the samples, since what is garbage at the moment differs from
    file to file.  None for a run of less than twenty samples, which says nothing.
    """
    tenth = len(samples) // 10
    if tenth < 2:
        return None
    first, last = (
        statistics.median(one["rss_mib"] for one in part)
        for part in (samples[tenth : 2 * tenth], samples[-tenth:])
    )
    return {
        "after_the_first_tenth_mib": first,
        "in_the_last_tenth_mib": last,
        "ratio": round(last / first, 3),
        "flat": last <= FLAT * first,
    }


def run(*, receipts: int, quotes: int, rounds: int, long: int, folder: Path) -> dict[str, Any]:
    """Measure everything; `long` receipts in the long run, 0 leaves it out."""
    return {
        "benchmark": "verifying",
        "machine": describe_machine(folder),
        "receipts_in_the_file": receipts,
        "receipts": receipts_a_second(receipts, rounds),
        "quotes": quotes_a_second(quotes, rounds),
        "long_run": long_run(long, min(IN_ONE_FILE, long)) if long else None,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--receipts", type=int, default=RECEIPTS, help="in the measured file")
    parser.add_argument("--quotes", type=int, default=QUOTES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--long", type=int, default=0, help="receipts of the long run (none)")
    parser.add_argument("--out", type=Path, help="keep the document here")
    arguments = parser.parse_args()
    document = run(
        receipts=arguments.receipts,
        quotes=arguments.quotes,
        rounds=arguments.rounds,
        long=arguments.long,
        folder=Path.cwd(),
    )
    publish(document, [*document["receipts"], *document["quotes"]], arguments.out)
    grown = (document["long_run"] or {}).get("growth")
    if grown and not grown["flat"]:
        parser.exit(1, f"memory grew by {grown['ratio']} over the run, more than {FLAT}\n")


if __name__ == "__main__":
    main()
