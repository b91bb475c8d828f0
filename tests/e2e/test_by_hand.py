"""What `attested explain` says to do by hand: it agrees with the verifier, on both sides."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.bundle import parse_bundle
from attestation.checks import CHECKS
from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.policy import parse_policy
from attestation.policy.lint import NEVER_MADE
from attestation.report.explanations import EXPLANATIONS
from attestation.result import AttestationResult, Status
from attestation.tdx.anchor import parse_anchor
from attestation.verifier import Contents, verify
from gateway.attester.simulated.facts import Domain, Endorsements, Machine, TcbLevel
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.cli.local.policy import pin_policy
from tests.support.bundles import Gateway
from tests.support.gateways import MODEL, Stack, standing

TOOLS = ("openssl", "jq", "sha256sum", "base64", "sh")
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}"
)

FAILING_HERE = {"ENGINE-LOCAL", "MODEL"}
"""Without a measured model the verifier skips these, and the scripts fail."""

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with standing() as running:
        yield running


@pytest.fixture(scope="module")
def left(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's files: a plain answer and a stream, both anchored."""
    session = stack.session()
    headers = {"authorization": f"Bearer {stack.gateway.key}"}
    with session.http_client(headers=headers, base_url=session.origin) as client:
        for stream in (False, True):
            body = {"model": MODEL, "stream": stream}
            ask: httpx2.Response = client.post(
                "/v1/chat/completions",
                json=body | {"messages": [{"role": "user", "content": "hello"}]},
            )
            assert ask.status_code == 200
    folder = tmp_path_factory.mktemp("by hand") / "demo"
    session.export(folder)
    (folder / "policy.toml").write_text(pin_policy(stack.gateway.boot))
    root = stack.gateway.anchor.certificate.public_bytes(Encoding.PEM)
    (folder / "root.pem").write_bytes(root)
    return folder


@pytest.fixture
def folder(left: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "demo"
    shutil.copytree(left, copy)
    return copy


def run(folder: Path, id_: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the commands of one check as a shell reads them."""
    here = str(Path(sys.executable).parent)
    return subprocess.run(
        ["sh", "-e"],
        input=EXPLANATIONS[id_].by_hand + "\n",
        cwd=folder,
        env={"PATH": f"{here}:{os.environ['PATH']}", "LANG": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def judged(folder: Path) -> AttestationResult:
    bundle = parse_bundle((folder / "bundle.json").read_bytes())
    anchor = parse_anchor((folder / "root.pem").read_bytes())
    policy = parse_policy((folder / "policy.toml").read_bytes())
    contents = {
        item.jti: Contents(
            request=(folder / "bodies" / f"{item.jti}.request").read_bytes(),
            response=(folder / "bodies" / f"{item.jti}.response").read_bytes(),
            nonce=item.receipt.claims.nonce,
        )
        for item in bundle.receipts
    }
    return verify(bundle, policy, int(time.time()), [anchor], contents)


def statuses(result: AttestationResult, id_: str) -> set[Status]:
    return {check.status for check in result.checks if check.id == id_}


def first_nonce(folder: Path) -> str:
    bundle = parse_bundle((folder / "bundle.json").read_bytes())
    return bundle.receipts[0].receipt.claims.nonce or ""


@pytest.mark.parametrize("id_", [id_ for id_ in CHECKS if id_ != "CHANNEL"])
def test_commands_hold_where_the_check_passes(id_: str, left: Path) -> None:
    seen = statuses(judged(left), id_)
    done = run(left, id_, NONCE=first_nonce(left))
    if id_ in FAILING_HERE:
        assert Status.PASS not in seen
        assert done.returncode != 0
    elif id_ in NEVER_MADE:
        assert Status.PASS not in seen
        assert done.returncode != 0
        assert "nothing to redo: this version does not make the check" in done.stderr
    else:
        assert Status.FAIL not in seen
        assert done.returncode == 0, done.stdout + done.stderr


def test_commands_use_no_program_of_this_project_and_leave_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    work = folder.parent / "work"
    work.mkdir()
    for id_, told in EXPLANATIONS.items():
        assert "attested " not in told.by_hand
        run(folder, id_, NONCE="x", GATEWAY="127.0.0.1:1", TMPDIR=str(work))
    assert sorted(folder.rglob("*")) == before
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(("id_", "name"), [("NONCE", "NONCE"), ("CHANNEL", "GATEWAY")])
def test_commands_ask_for_what_they_were_not_told(id_: str, name: str, left: Path) -> None:
    done = run(left, id_)
    assert done.returncode != 0
    assert f"{name}: set it to" in done.stderr


@pytest.mark.parametrize("id_", ["COLLATERAL-FRESH", "QUOTE-GENUINE"])
def test_commands_judge_by_the_instant_that_is_given(id_: str, left: Path) -> None:
    now = int(time.time())
    assert run(left, id_, AT=str(now)).returncode == 0
    assert run(left, id_, AT=str(now + 40 * 365 * 86_400)).returncode != 0
    assert run(left, id_, AT=str(now - 40 * 365 * 86_400)).returncode != 0


def test_dates_of_both_revocation_lists_are_shown(left: Path) -> None:
    shown = run(left, "COLLATERAL-FRESH").stdout
    assert shown.count("lastUpdate=") == shown.count("nextUpdate=") == 2


def test_channel_by_hand_finds_the_gateways_key_and_no_other(
    stack: Stack, left: Path, folder: Path
) -> None:
    gateway = stack.gateway.url.removeprefix("https://")
    assert run(left, "CHANNEL", GATEWAY=gateway).returncode == 0

    def other_key(value: dict[str, Any]) -> None:
        value["boots"][0]["keyset"]["tls"] = [{"spki_sha256": "00" * 32}]

    rewrite(folder, other_key)
    assert run(folder, "CHANNEL", GATEWAY=gateway).returncode != 0


def rewrite(folder: Path, change: Change) -> None:
    path = folder / "bundle.json"
    value = json.loads(path.read_bytes())
    change(value)
    path.unlink()
    path.write_bytes(jcs.canonicalize(value))


def statement(value: dict[str, Any]) -> None:
    value["boots"][0]["statement"]["config_digest"] = "00" * 32


def keyset(value: dict[str, Any]) -> None:
    value["boots"][0]["keyset"]["not_after"] += 1


def signature(value: dict[str, Any]) -> None:
    token = value["receipts"][0]["receipt"].split(".")
    raw = bytearray(base64url.decode(token[2]))
    raw[0] ^= 1
    value["receipts"][0]["receipt"] = ".".join([*token[:2], base64url.encode(bytes(raw))])


def events(value: dict[str, Any]) -> None:
    value["boots"][0]["event_log"]["data"][0]["bootseed"] = "00" * 32


def proof(value: dict[str, Any]) -> None:
    lines = value["receipts"][0]["proof"].split("\n")
    lines[2] = "A" * 43 + "="
    value["receipts"][0]["proof"] = "\n".join(lines)


def checkpoint(value: dict[str, Any]) -> None:
    text = value["receipts"][0]["proof"]
    at = text.rindex("\u2014") + len(text[text.rindex("\u2014") :].rsplit(" ", 1)[0]) + 12
    value["receipts"][0]["proof"] = text[:at] + ("B" if text[at] == "A" else "A") + text[at + 1 :]


def counter(value: dict[str, Any]) -> None:
    value["epochs"][0]["statement"]["unauthenticated"] += 1


def in_quote(offset: int) -> Change:
    def change(value: dict[str, Any]) -> None:
        raw = bytearray(base64url.decode(value["boots"][0]["quote"]))
        raw[offset] ^= 1
        value["boots"][0]["quote"] = base64url.encode(bytes(raw))

    return change


def twice(value: dict[str, Any]) -> None:
    value["receipts"][1]["receipt"] = value["receipts"][0]["receipt"]


BODY = 48
CHANGES: list[tuple[str, Change, str]] = [
    ("BOOT-STATEMENT", statement, "BOOT-STATEMENT"),
    ("MEASUREMENTS", statement, "MEASUREMENTS"),
    ("KEYSET", keyset, "KEYSET"),
    ("RECEIPT-SIGNATURE", signature, "RECEIPT-SIGNATURE"),
    ("EVENT-LOG", events, "EVENT-LOG"),
    ("LOG-INCLUSION", proof, "LOG-INCLUSION"),
    ("LOG-CHECKPOINT", checkpoint, "LOG-CHECKPOINT"),
    ("EPOCH-QUOTE", counter, "EPOCH-QUOTE"),
    ("QUOTE-GENUINE", in_quote(BODY + 520), "QUOTE-GENUINE"),
    ("TD-ATTRIBUTES", in_quote(BODY + 120), "QUOTE-GENUINE"),
    ("TDX-MODULE", in_quote(BODY + 64), "QUOTE-GENUINE"),
    ("RECEIPT-BINDING", in_quote(BODY), "RECEIPT-BINDING"),
    ("EPOCH-CHAIN", in_quote(BODY), "QUOTE-GENUINE"),
    ("QUOTE-FORMAT", in_quote(2), "QUOTE-FORMAT"),
]


@pytest.mark.parametrize(("id_", "change", "fails"), CHANGES, ids=[each[0] for each in CHANGES])
def test_commands_fail_where_something_was_changed(
    id_: str, change: Change, fails: str, folder: Path
) -> None:
    rewrite(folder, change)
    assert run(folder, id_).returncode != 0
    assert Status.FAIL in statuses(judged(folder), fails)


def test_receipts_in_one_place_fail_by_hand(folder: Path) -> None:
    rewrite(folder, twice)
    assert run(folder, "EQUIVOCATION").returncode != 0


@pytest.mark.parametrize(
    ("id_", "kind"), [("REQUEST-BODY", "request"), ("RESPONSE-BODY", "response")]
)
def test_changed_body_fails_by_hand(id_: str, kind: str, folder: Path) -> None:
    bundle = parse_bundle((folder / "bundle.json").read_bytes())
    path = folder / "bodies" / f"{bundle.receipts[0].jti}.{kind}"
    body = path.read_bytes()
    path.unlink()
    path.write_bytes(body[:-1] + b" ")
    assert run(folder, id_).returncode != 0
    assert Status.FAIL in statuses(judged(folder), id_)


def test_other_insertion_than_the_one_forwarded_fails_by_hand(folder: Path) -> None:
    path = folder / "bundle.json"
    document = json.loads(path.read_bytes())
    inserted = document["receipts"][0]["openings"]["ins"]
    assert len(inserted) == 1
    inserted[0] = ("A" if inserted[0][0] != "A" else "B") + inserted[0][1:]
    path.unlink()
    path.write_bytes(jcs.canonicalize(document))
    assert run(folder, "FORWARDED-BODY").returncode != 0
    assert Status.FAIL in statuses(judged(folder), "FORWARDED-BODY")


def test_other_nonce_and_other_spelling_fail_by_hand(folder: Path) -> None:
    assert run(folder, "NONCE", NONCE="x" * 43).returncode != 0
    path = folder / "bundle.json"
    text = path.read_bytes()
    path.unlink()
    path.write_bytes(text + b"\n")
    assert run(folder, "BUNDLE").returncode != 0


NOW = int(time.time())
PLATFORM = SimulatedPlatform(now=NOW, seed=b"by hand")
OPEN = ("INTEL-SA-00001",)
PLATFORMS = [
    ("TCB-STATUS", PLATFORM.but(endorsements=Endorsements(levels=(TcbLevel(status="OutOfDate"),)))),
    (
        "TCB-ADVISORIES",
        PLATFORM.but(endorsements=Endorsements(levels=(TcbLevel(advisories=OPEN),))),
    ),
    ("COLLATERAL-FRESH", SimulatedPlatform(now=NOW - 300 * 86_400, seed=b"by hand")),
    ("TD-ATTRIBUTES", PLATFORM.but(domain=Domain(xfam=0xE7))),
]


@pytest.mark.parametrize(("id_", "platform"), PLATFORMS, ids=[each[0] for each in PLATFORMS])
def test_commands_fail_on_platforms_that_the_check_refuses(
    id_: str, platform: SimulatedPlatform, folder: Path
) -> None:
    healthy, sick = (json.loads(resigned(folder, one)) for one in (PLATFORM, platform))
    (folder / "bundle.json").unlink()
    for value, status in ((healthy, 0), (sick, 1)):
        (folder / "bundle.json").write_bytes(jcs.canonicalize(value))
        done = run(folder, id_)
        assert bool(done.returncode) == bool(status), done.stdout + done.stderr


def resigned(folder: Path, platform: SimulatedPlatform) -> bytes:
    """The boot of the bundle, quoted on another platform, without what follows it."""
    bundle = parse_bundle((folder / "bundle.json").read_bytes())
    boot = bundle.boots[0]
    collateral = platform.collateral()
    quote = platform.quote(boot.statement.report_data)
    other = replace(boot, quote=quote, collateral=collateral.digest)
    return replace(
        bundle, boots=(other,), epochs=(), receipts=(), collateral={collateral.digest: collateral}
    ).encode()


FIFTH = ("QUOTE-FORMAT", "QUOTE-GENUINE", "TCB-STATUS", "TD-ATTRIBUTES", "TDX-MODULE", "PLATFORM",
         "BOOT-STATEMENT")  # fmt: skip


@pytest.mark.parametrize("id_", FIFTH)
def test_commands_read_quotes_of_version_5_too(id_: str, folder: Path) -> None:
    platform = SimulatedPlatform(now=NOW, seed=b"by hand", version=5)
    (folder / "bundle.json").write_bytes(resigned(folder, platform))
    root = platform.anchor.certificate.public_bytes(Encoding.PEM)
    (folder / "root.pem").write_bytes(root)
    done = run(folder, id_)
    assert done.returncode == 0, done.stdout + done.stderr


def other_attempts(value: dict[str, Any], attempts: list[dict[str, Any]]) -> None:
    token = value["receipts"][0]["receipt"].split(".")
    claims = json.loads(base64url.decode(token[1]))
    claims["att"] = attempts
    token[1] = base64url.encode(jcs.canonicalize(claims))
    value["receipts"][0]["receipt"] = ".".join(token)


LOCAL = {"local": True, "up": "engine"}
ELSEWHERE = {"local": False, "up": "elsewhere"}


@pytest.mark.parametrize(
    ("attempts", "holds"),
    [([LOCAL, LOCAL], True), ([ELSEWHERE, LOCAL], False), ([LOCAL, ELSEWHERE], False), ([], False)],
)
def test_every_attempt_has_to_be_local_by_hand(
    attempts: list[dict[str, Any]], holds: bool, tmp_path: Path
) -> None:
    made = Gateway(statement_changes={"model_digest": Digest.of(b"lock")})
    made.plain()
    (tmp_path / "bundle.json").write_bytes(made.bundle().encode())
    rewrite(tmp_path, lambda value: other_attempts(value, attempts))
    done = run(tmp_path, "ENGINE-LOCAL")
    assert (done.returncode == 0) is holds, done.stdout + done.stderr


@pytest.mark.parametrize("id_", sorted(FAILING_HERE))
def test_commands_hold_where_a_model_was_measured(id_: str, tmp_path: Path) -> None:
    made = Gateway(statement_changes={"model_digest": Digest.of(b"lock")})
    made.plain()
    assert statuses(made.verify(), id_) == {Status.PASS}
    (tmp_path / "bundle.json").write_bytes(made.bundle().encode())
    assert run(tmp_path, id_).returncode == 0


def test_machine_is_read_by_hand_as_the_verifier_reads_it(folder: Path) -> None:
    machine = Machine(ppid=b"\x07" * 16)
    (folder / "bundle.json").write_bytes(resigned(folder, PLATFORM.but(machine=machine)))
    assert "07" * 16 in run(folder, "PLATFORM").stdout
