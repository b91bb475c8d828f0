"""What callers and engines say is found in nothing that `attested serve` leaves behind.

The gateway is a real process with the loudest logs there are; `provoke` drives every refusal,
every failure of the engine, of the notary and of the gateway itself, aborts, broken HTTP and
broken TLS, control and admin routes.  The token is in prompts, answers, keys, header names and
values, URLs, tool names, stop strings, malformed bodies and host names.

Where a receipt records a caller's or the engine's text by design (model and task id, nonce,
finish reason, media type, all bounded by the receipts' alphabet), another token is used: it is
found in the log, which also shows that the search sees into receipts, and nowhere else.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import resource
from pathlib import Path

import pytest

from attestation.encoding.base64url import encode
from attestation.receipt.claims import End
from gateway.edge import rules
from gateway.errors import UpstreamFailure
from tests.canary.conftest import Left, driven, everything
from tests.canary.search import Canary, hits
from tests.support.logs import segments_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
# Built from a field's name, a parser's code or a kind of failure, where the source has no literal.
COMPUTED = {
    *(rule.code for rule in rules.RULES),
    *(f"refused_{name}" for name in rules.CHOICES),
    *(f"refused_part_{name}" for name in rules.FORBIDDEN_PART_MEMBERS),
    *(f"json_{code}" for code in ("encoding", "syntax", "duplicate_member", "number")),
    *(f"json_{code}" for code in ("surrogate", "depth")),
    *(
        f"upstream_{kind.value}"
        for kind in UpstreamFailure
        if kind is not UpstreamFailure.UNAVAILABLE  # it has its own code, which stands as it is
    ),
    *("lineage_task_id", "lineage_parents", "quote_failed", "tls_chain"),
}
# Reach nobody: the request was given up because its caller had left, and a refusal after which
# another engine was asked.  The last is refused only where cache.salt is off.
UNSEEN = {"upstream_closed", "upstream_status", "refused_cache_salt"}
# Bounds of a whole process, which this one must not meet: tests/outcomes/test_canary.py looks for
# content behind them.  The last is answered before anything is read.
UNSEEN |= {"overloaded", "no_memory", "no_memory_for_answer", "too_many_connections"}


def literal_codes() -> set[str]:
    """Every code that stands in the source of an answer of the gateway's own."""
    found = set()
    for path in [*(ROOT / "gateway/edge").glob("*.py"), *(ROOT / "gateway/api").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found |= _code_of(node)
    return found


def _code_of(call: ast.Call) -> set[str]:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    place = {"Refusal": None, "ApiError": 1, "refuse": 1, "_refused": 0}
    if name not in place:
        return set()
    at = place[name]
    by_name = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    by_place = [call.args[at]] if at is not None and len(call.args) > at else []
    return {
        value.value
        for value in by_name + by_place
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


def test_every_error_the_gateway_can_give_was_driven(left: Left) -> None:
    wanted = (literal_codes() | COMPUTED) - UNSEEN
    assert len(wanted) > 70
    assert wanted - left.run.codes == set()


def test_every_way_a_request_can_end_was_driven(left: Left) -> None:
    ends = {end for end in End if f'end="{end.value}"' in left.metrics}
    assert ends == set(End)


def test_hidden_token_is_found_nowhere(left: Left, canary: Canary) -> None:
    assert {"stdout", "stderr", "metrics", "keys.json", "spans"} <= left.places.keys()
    assert left.places["stderr"].count(b"request.ended") > 100
    assert left.places["spans"].count(b"attested.receipt") > 100
    assert any(name.endswith(".seg") for name in left.places)
    assert hits(canary.hidden.encode(), left.places) == []


def test_recorded_token_is_found_in_the_segment_and_nowhere_else(
    left: Left, canary: Canary
) -> None:
    (segment,) = (name for name in left.places if name.endswith(".seg"))
    found = {place.partition(" (")[0] for place in hits(canary.recorded.encode(), left.places)}
    assert found == {segment}


def test_no_api_key_and_no_opening_is_found_anywhere(left: Left) -> None:
    secrets = left.run.secrets
    assert len(secrets) > 100
    found = {name: hits(secret, left.places) for name, secret in secrets.items()}
    assert {name: places for name, places in found.items() if places} == {}


def test_no_plain_hash_of_a_body_is_found_anywhere(left: Left) -> None:
    # A plain hash of a short prompt could be guessed; commitments are keyed.
    assert len(left.run.bodies) > 50
    for body in left.run.bodies - {b""}:
        digest = hashlib.sha256(body).digest()
        for spelling in (digest, digest.hex().encode(), encode(digest).encode()):
            assert [name for name, data in left.places.items() if spelling in data] == []


def test_gateway_survived_all_of_it_and_wrote_to_no_other_place(left: Left) -> None:
    assert left.exit_code == 0
    assert left.elsewhere == []
    assert left.places["stdout"] == b"stdout\n"
    temporary = [name for name in left.places if name.startswith("tmp/")]
    assert temporary == []


def test_log_names_the_kind_of_an_internal_failure_and_no_more(left: Left) -> None:
    log = left.places["stderr"].decode()
    assert '"kind": "lookuperror"' in log
    assert '"kind": "keyerror"' in log
    # What the failures themselves said, see `faults`.
    assert not any(said in log for said in ("no rule for", "cannot take", "no room for"))


def test_gateway_whose_disk_is_full_says_nothing_either(tmp_path: Path) -> None:
    canary = Canary()
    with driven(tmp_path, canary) as (run, _):
        for scenario in ("plain", "stream") * 4:
            run.ask(run.body(user=scenario))
        (segment,) = segments_of(run.served.boot)
        room = max(segment.stat().st_size, (tmp_path / "stderr").stat().st_size + 2048)
        resource.prlimit(run.served.notary_pid, resource.RLIMIT_FSIZE, (room, room))
        metrics = run.served.metrics_text()
        # The record that no longer fits is the last thing this boot does.
        while run.served.process.poll() is None and "receipt_unavailable" not in run.codes:
            # Where it is no receipt, the gateway takes no more connections before it ends.
            with contextlib.suppress(ConnectionError):
                run.ask()
        assert run.served.process.wait(60) == 14
        places = everything(run.served, metrics)
    assert b"log_failed" in places["stderr"]
    assert hits(canary.hidden.encode(), places) == []
    found = {place.partition(" (")[0] for place in hits(canary.recorded.encode(), places)}
    assert {name.rpartition(".")[2] for name in found} == {"seg"}
    assert [hits(secret, places) for secret in run.secrets.values() if hits(secret, places)] == []


def test_search_finds_a_gateway_that_does_leak(tmp_path: Path) -> None:
    canary = Canary()
    with driven(tmp_path, canary, CANARY_LEAK="1") as (run, _):
        run.ask(run.body(priority=canary.hidden), key="rules", expect="refused_priority")
        places = everything(run.served, run.served.metrics_text())
    assert [place.partition(" (")[0] for place in hits(canary.hidden.encode(), places)] == [
        "stderr"
    ]
