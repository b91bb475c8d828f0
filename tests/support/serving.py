"""`attested` as users run it: the console script, in processes of its own, over real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx2

from attestation.policy import parse_policy
from attestation.result import AttestationResult
from attestation.tdx.anchor import parse_anchor
from attestation.tdx.eventlog import parse_runtime_events
from gateway.access import keyfile
from gateway.access.principal import Grant
from gateway.client.judge import Trust
from gateway.client.session import Session

PROGRAM = Path(sys.executable).with_name("attested")
READY = "attested-gateway is ready"
# Generous, because two busy cores may be shared with other tests; reaching it is a failure.
PATIENCE = 60.0


def environment(folder: Path) -> dict[str, str]:
    """Nothing of the caller's environment; temporary files end up where a test can see them."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(temporary), "LANG": "C"}


def attested(
    folder: Path,
    *arguments: str,
    stdin: bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run one command in `folder` to its end."""
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env=environment(folder) | dict(variables or {}),
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def add_key(folder: Path, *arguments: str) -> str:
    """Make a key with `attested keys add` in `folder`/keys.json and return it."""
    done = attested(folder, "keys", "add", "--keys-file", "keys.json", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


Several: TypeAlias = Sequence[Mapping[str, Any]]
"""Engines as `[[upstreams]]`, each with its name and address."""


def write_config(folder: Path, engine: str | Several, /, **tables: Mapping[str, Any]) -> Path:
    """Write gateway.toml: a loopback gateway without TLS unless `tables` say otherwise."""
    # An engine in a test's own process has other work too.
    at: dict[str, Any] = {"connect_timeout": 30.0}
    if isinstance(engine, str):
        at |= {"uds": engine[5:]} if engine.startswith("unix:") else {"url": engine}
    document: dict[str, dict[str, Any]] = {
        "listen": {"host": "127.0.0.1", "port": 0},
        "tls": {"mode": "off"},
        "upstream": at,
        "access": {"keys_file": "keys.json"},
        "notary": {"data_dir": "data"},
        "evidence": {"provider": "simulated:", "quote_interval": 0.0},
        "admin": {"port": 0},
        # Engines in tests answer as they are told to, whatever they are asked.
        "selfcheck": {"routes": "off"},
    }
    for name, table in tables.items():
        document[name] = {**document.get(name, {}), **table}
    if "uds" in document["listen"]:
        document["listen"] = {"uds": document["listen"]["uds"]}
    written = [(f"[{name}]", table) for name, table in document.items()]
    if not isinstance(engine, str):
        written = [one for one in written if one[0] != "[upstream]"]
        written += [("[[upstreams]]", at | dict(each)) for each in engine]
    path = folder / "gateway.toml"
    path.write_text(
        "".join(
            f"{head}\n" + "".join(f"{key} = {json.dumps(v)}\n" for key, v in table.items())
            for head, table in written
        )
    )
    return path


@dataclass(slots=True, kw_only=True)
class Served:
    """One `attested serve` process; its output goes to files in `folder`.

    `key` is a key that may do everything and was there when the process started.
    """

    folder: Path
    process: subprocess.Popen[bytes]
    key: str
    _policies: dict[Path, bytes] = field(default_factory=dict)

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def lines(self) -> dict[str, str]:
        """The start block as name and text."""
        block = self.stderr.partition(READY)[2].splitlines()[1:]
        return {line[2:16].strip(): line[17:] for line in block if line.startswith("  ")}

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every log line after the start block; one that is just being written is none yet."""
        written = self.stderr.rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in written if line.startswith("{")]

    @property
    def url(self) -> str:
        return self.lines["address"]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def admin(self) -> str:
        return self.lines["admin"]

    def metrics_text(self) -> str:
        """What the admin listener shows."""
        return httpx2.get(f"{self.admin}/metrics", trust_env=False).raise_for_status().text

    def metrics(self) -> dict[str, float]:
        """Every sample with its labels: `{'attested_receipts_total{…}': 1.0, …}`."""
        lines = (line for line in self.metrics_text().splitlines() if not line.startswith("#"))
        return {name: float(number) for name, _, number in (line.rpartition(" ") for line in lines)}

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def wait_ready(self) -> None:
        wait_until(lambda: "log origin" in self.stderr or self.process.poll() is not None)
        assert self.process.poll() is None, f"serve ended early:\n{self.stderr}"
        wait_until(lambda: self.stderr.endswith("\n") and "evidence" in self.lines)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    @property
    def boot(self) -> Path:
        """The folder of this boot in the data folder."""
        return self.data / self.lines["log origin"].rpartition("/")[2]

    @property
    def pids(self) -> dict[str, list[int]]:
        """The processes that the start block names: supervisor, notary, workers."""
        parts = self.lines["processes"].replace(",", "").replace("one pid", "supervisor").split()
        found: dict[str, list[int]] = {"supervisor": [], "notary": [], "workers": []}
        name = ""
        for part in parts:
            if part in found:
                name = part
            else:
                found[name].append(int(part))
        return found

    @property
    def notary_pid(self) -> int:
        """The process that writes the log."""
        return (self.pids["notary"] or self.pids["supervisor"])[0]

    def policy(self) -> bytes:
        """A policy that pins what this boot says of itself: simulated values, known here."""
        boot = self.boot
        if boot not in self._policies:
            self._policies[boot] = self._policy_of(boot)
        return self._policies[boot]

    def _policy_of(self, folder: Path) -> bytes:
        evidence = folder / "boot.json"
        boot = json.loads(evidence.read_bytes())["boots"][0]
        facts = json.loads(attested(self.folder, "inspect", str(evidence), "--json").stdout)
        quote = facts["content"]["boots"][0]["quote"]
        pins = {
            "name": "this boot",
            **{name: quote[name] for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2")},
            "rtmr3": "replay",
            "config_digest": boot["statement"]["config_digest"],
        }
        values = "".join(f'{name} = "{value}"\n' for name, value in pins.items())
        log = boot["event_log"]
        if log is not None and log["format"] == "attested-gateway":
            measured = parse_runtime_events(log["data"])[:-1]
            listed = (f'{{name = "{e.name}", digest = "{e.digest.hex()}"}}' for e in measured)
            values += f"events = [{', '.join(listed)}]\n" if measured else ""
        return (
            'schema = "appraisal-policy/1"\n[log]\nrequire_anchored = false\n'
            f"[[reference_values]]\n{values}"
        ).encode()

    def trust(self) -> Trust:
        """What a client accepts that knows this boot."""
        return Trust(
            policy=parse_policy(self.policy()),
            anchors=(parse_anchor((self.boot / "root.pem").read_bytes()),),
            gate=AttestationResult.require_accepted_or_unsafe_simulated,
        )

    def connect(self) -> Session:
        """A session whose every call is verified against this boot."""
        return Session.connect(self.url, self.trust())


def wait_until(met: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
    """Poll until `met()`; fails when the time is over."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"it did not happen in {seconds:g} s"
        time.sleep(0.02)


def start(folder: Path, *arguments: str, **variables: str) -> Served:
    """Start `attested serve --config gateway.toml` without waiting for it, with a new key."""
    key = keyfile.add_key(folder / "keys.json", label="first", grant=Grant(), now=int(time.time()))
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [PROGRAM, "serve", "--config", "gateway.toml", *arguments],
            cwd=folder,
            env=environment(folder) | variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    return Served(folder=folder, process=process, key=key)


@contextlib.contextmanager
def serving(
    folder: Path,
    engine: str | Several,
    /,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    **tables: Mapping[str, Any],
) -> Iterator[Served]:
    """A ready gateway, ended by its pid at the end whatever happened."""
    write_config(folder, engine, **tables)
    served = start(folder, *arguments, **(variables or {}))
    try:
        served.wait_ready()
        yield served
    finally:
        if served.process.poll() is None:
            os.kill(served.process.pid, signal.SIGTERM)
        try:
            served.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            served.process.kill()
            served.process.wait()
            raise
