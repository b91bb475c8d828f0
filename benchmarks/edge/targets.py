"""Starting what is measured: each target in front of the same engine, with one worker."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.edge.dialogue import MODEL
from benchmarks.edge.meters import family
from benchmarks.edge.prepare import environment, find_nginx
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant

HERE: Final = Path(__file__).parents[2]
HOST: Final = "127.0.0.1"
_READY_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 30.0
_DESCRIPTORS: Final = 60_000


class Absent(Exception):  # noqa: N818 - a state of the machine, not an error
    """A target that this machine does not have; the text says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running proxy; `parts` are the process ids of its parts by name."""

    name: str
    port: int
    parts: dict[str, list[int]]
    key: str = "none"
    samples: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a target is started with: the engine's port, a folder of its own."""

    engine: int
    folder: Path
    profile: bool = False


Start = Callable[[Place], "contextlib.AbstractContextManager[Target]"]


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], folder: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401 - Popen's own
    """Run a program until the block ends; its messages go to a file in `folder`."""
    with (folder / "messages").open("w") as messages:
        process = subprocess.Popen(
            command,
            stderr=messages,
            stdout=more.pop("stdout", messages),
            text=True,
            preexec_fn=_prepare_child,  # noqa: PLW1509 - nothing here has threads
            **more,
        )
    try:
        yield process
    finally:
        everyone = family(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for one in everyone:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _prepare_child() -> None:
    import resource  # noqa: PLC0415 - runs in the child only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(soft, _DESCRIPTORS), max(hard, _DESCRIPTORS))
        )
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def wait_until_serving(
    port: int, process: subprocess.Popen[str], messages: Path, key: str = "none"
) -> None:
    """Return once a chat request is answered with 200; raises what the program said if it ends."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "x"}]}).encode()
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        request = urllib.request.Request(
            f"http://{HOST}:{port}/v1/chat/completions",
            data=body,
            headers={"content-type": "application/json", "authorization": f"Bearer {key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=5):  # noqa: S310 - loopback
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise RuntimeError(f"a target does not serve: {messages.read_text()[-2000:]}")


# -- the targets -------------------------------------------------------------------------------


@contextlib.contextmanager
def direct(place: Place) -> Iterator[Target]:
    """The engine itself: what the load generator and the engine take alone."""
    yield Target(name="direct", port=place.engine, parts={})


_NGINX: Final = """
daemon off; master_process on; worker_processes 1; worker_rlimit_nofile 60000;
pid {folder}/nginx.pid; error_log {folder}/error.log error;
events {{ worker_connections 30000; multi_accept on; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_max_body_size 0; client_body_buffer_size 64k;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream engine {{
    server 127.0.0.1:{engine}; keepalive 1024; keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 2h;
    }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(place: Place) -> Iterator[Target]:
    """The reverse proxy: nginx with one worker, kept connections, no buffering."""
    program = find_nginx()
    if program is None:
        raise Absent("nginx is not installed (Debian: apt-get install nginx-light)")
    port = free_port()
    file = place.folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=place.folder, engine=place.engine, port=port))
    command = [program, "-c", str(file), "-p", str(place.folder), "-e", str(place.folder / "e.log")]
    with running(command, place.folder) as process:
        wait_until_serving(port, process, place.folder / "messages")
        yield Target(name="nginx", port=port, parts={"all": family(process.pid)})


@contextlib.contextmanager
def naive(place: Place) -> Iterator[Target]:
    """FastAPI and httpx."""
    python = environment() / "bin" / "python"
    yield from _competitor(
        "naive",
        place,
        lambda port: [
            str(python),
            str(Path(__file__).with_name("naive.py")),
            f"--port={port}",
            f"--engine=http://{HOST}:{place.engine}",
        ],
        needs=python,
    )


@contextlib.contextmanager
def vllm_router(place: Place) -> Iterator[Target]:
    """The Rust router of the vLLM project, set to do as little as it lets itself be told."""
    quiet = (
        *("--policy", "round_robin", "--log-level", "error"),
        *("--disable-retries", "--disable-circuit-breaker"),
        *("--health-check-interval-secs", "3600"),
    )
    yield from _router("vllm-router", place, quiet)


@contextlib.contextmanager
def vllm_router_default(place: Place) -> Iterator[Target]:
    """The same router as it starts by itself: cache-aware, with its log."""
    yield from _router("vllm-router-default", place, ())


def _router(name: str, place: Place, flags: tuple[str, ...]) -> Iterator[Target]:
    program = environment() / "bin" / "vllm-router"
    yield from _competitor(
        name,
        place,
        lambda port: [
            str(program),
            *("--host", HOST, "--port", str(port)),
            *("--worker-urls", f"http://{HOST}:{place.engine}"),
            *("--prometheus-port", str(free_port()), "--request-timeout-secs", "7200"),
            *("--max-concurrent-requests", "65536", "--queue-size", "65536"),
            *("--max-payload-size", str(64 << 20)),
            *flags,
        ],
        needs=program,
    )


_LITELLM: Final = """
model_list:
  - model_name: {model}
    litellm_params:
      {{model: openai/{model}, api_base: "http://127.0.0.1:{engine}/v1", api_key: none}}
litellm_settings: {{drop_params: true, set_verbose: false, telemetry: false}}
general_settings: {{disable_spend_logs: true, master_key: "{key}"}}
"""


@contextlib.contextmanager
def litellm(place: Place) -> Iterator[Target]:
    """LiteLLM's proxy with one worker."""
    program = environment() / "bin" / "litellm"
    file = place.folder / "litellm.yaml"
    key = f"sk-{secrets.token_hex(32)}"
    file.write_text(_LITELLM.format(model=MODEL, engine=place.engine, key=key))
    yield from _competitor(
        "litellm",
        place,
        lambda port: [
            str(program),
            *("--config", str(file), "--host", HOST, "--port", str(port), "--num_workers", "1"),
        ],
        needs=program,
        key=key,
    )


def _competitor(
    name: str, place: Place, command: Callable[[int], list[str]], *, needs: Path, key: str = "none"
) -> Iterator[Target]:
    if not needs.exists():
        raise Absent(f"{needs.name} is not in the competitors' environment (--prepare)")
    port = free_port()
    variables = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(place.folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "NO_PROXY": "*",
    }
    with running(command(port), place.folder, env=variables, cwd=place.folder) as process:
        wait_until_serving(port, process, place.folder / "messages", key)
        yield Target(name=name, port=port, parts={"all": family(process.pid)}, key=key)


_GATEWAY: Final = """
name = "bench.local"
workers = {workers}
[listen]
port = {port}
[tls]
mode = "off"
[upstream]
url = "http://127.0.0.1:{engine}"
engine = "vllm/0.32.0"
first_byte_timeout = 3600
idle_timeout = 3600
[access]
keys_file = "{folder}/keys.json"
[notary]
data_dir = "{folder}/journal"
[evidence]
provider = "simulated:"
# The engine of a benchmark answers whatever it is asked.
[selfcheck]
routes = "off"
"""


@contextlib.contextmanager
def _gateway(
    place: Place, name: str, *, worker: str | None = None, notary: str | None = None, count: int = 1
) -> Iterator[Target]:
    """`attested serve`, as an operator starts it: supervisor, notary, `count` workers."""
    keys = place.folder / "keys.json"
    grant = Grant(models=(MODEL,), concurrency=65_536)
    key = add_key(keys, label="bench", grant=grant, now=int(time.time()))
    file = place.folder / "gateway.toml"
    port = free_port()
    file.write_text(
        _GATEWAY.format(port=port, engine=place.engine, folder=place.folder, workers=count)
    )
    serve = ["serve", "--config", str(file), "--json"]
    command = [sys.executable, "-m", "gateway.cli.main", *serve]
    if worker or notary:
        command = [sys.executable, "-m", "benchmarks.edge.launch"]
        command += ["--worker", worker] if worker else []
        command += ["--notary", notary] if notary else []
        command += ["--", *serve]
    variables = {**os.environ, "BENCH_SAMPLES": str(place.folder)}
    with running(command, place.folder, cwd=HERE, stdout=subprocess.PIPE, env=variables) as process:
        if process.stdout is None or not (line := process.stdout.readline()):
            raise RuntimeError((place.folder / "messages").read_text()[-2000:])
        processes = json.loads(line)["processes"]
        parts = {
            "worker": list(processes["workers"]),
            "notary": [processes["notary"]],
            "supervisor": [processes["supervisor"]],
        }
        yield Target(name=name, port=port, parts=parts, key=key, samples=place.folder)


@contextlib.contextmanager
def ours(place: Place) -> Iterator[Target]:
    """The gateway as it is."""
    profiled = "benchmarks.edge.profiled"
    worker, notary = (f"{profiled}_worker", f"{profiled}_notary") if place.profile else (None, None)
    with _gateway(place, "ours", worker=worker, notary=notary) as target:
        yield target


@contextlib.contextmanager
def ours_no_receipts(place: Place) -> Iterator[Target]:
    """The gateway's worker without a notary that issues anything."""
    with _gateway(place, "ours-no-receipts", worker="benchmarks.edge.bare") as target:
        yield target


@contextlib.contextmanager
def ours_two_workers(place: Place) -> Iterator[Target]:
    """The gateway with two workers and their one notary."""
    with _gateway(place, "ours-2-workers", count=2) as target:
        yield target


TARGETS: Final[dict[str, Start]] = {
    "direct": direct,
    "nginx": nginx,
    "naive": naive,
    "vllm-router": vllm_router,
    "vllm-router-default": vllm_router_default,
    "litellm": litellm,
    "ours": ours,
    "ours-no-receipts": ours_no_receipts,
    "ours-2-workers": ours_two_workers,
}


@contextlib.contextmanager
def started(name: str, engine: int, *, profile: bool = False) -> Iterator[Target]:
    """Run a target in a folder that goes with it.  Raises `Absent`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Place(engine=engine, folder=Path(folder), profile=profile)
        with TARGETS[name](place) as target:
            yield target
