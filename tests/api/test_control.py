"""The control routes over real sockets: what they show, to whom, and in which form they refuse."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attestation.bundle import MEDIA_TYPE, parse_bundle
from attestation.encoding import base64url
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, parse_vkey
from attestation.merkle.tiles import parse_entry_bundle, parse_hash_tile
from attestation.merkle.tlog_proof import parse_tlog_proof, verify_tlog_proof
from attestation.merkle.tree import leaf_hash, root_hash, verify_inclusion
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from attestation.statement import parse_challenge_statement
from attestation.tdx.quote import parse_quote
from gateway.access.keyfile import revoke_key
from gateway.access.principal import Grant
from gateway.upstream import Upstream, parse_engine_url
from tests.support.disks import BrokenSegments
from tests.support.files import contents
from tests.support.notaries import announcement

NONCE = "ab" * 32


def error_of(response: Any) -> dict[str, Any]:
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error


async def test_attestation_needs_no_key_and_names_the_keyset(running: Any) -> None:
    response = await running.get("/v1/attestation", None)
    body = response.json()
    boot = running.gateway.boot
    assert response.status_code == 200
    assert body["boot"] == boot.evidence.to_json()
    assert body["keyset_digest"] == boot.keyset_digest.hex == response.headers["x-keyset-digest"]
    assert body["collateral"][body["boot"]["collateral"]] == boot.collateral.to_json()
    assert body["challenge"] is None


async def test_nonce_gets_a_quote_that_covers_it(running: Any) -> None:
    body = (await running.get(f"/v1/attestation?nonce={NONCE}", None)).json()
    challenge = body["challenge"]
    statement = parse_challenge_statement(challenge["statement"])
    quote = parse_quote(base64url.decode(challenge["quote"]))
    assert quote.body.report_data == statement.report_data
    assert statement.keyset_digest.hex == body["keyset_digest"]
    verify_inclusion(
        leaf_hash=leaf_hash(bytes.fromhex(NONCE)),
        index=challenge["index"],
        size=challenge["count"],
        path=[base64url.decode(node) for node in challenge["path"]],
        root=statement.nonce_root.value,
    )


async def test_evidence_comes_as_a_bundle_too(running: Any) -> None:
    response = await running.get("/v1/attestation?format=bundle", None)
    assert response.headers["content-type"] == MEDIA_TYPE
    bundle = parse_bundle(response.content)
    assert bundle.boots == (running.gateway.boot.evidence,)
    assert not bundle.receipts


@pytest.mark.parametrize(
    "query",
    [
        "nonce=",
        "nonce=" + "AB" * 32,
        "nonce=" + "ab" * 31,
        "format=xml",
        f"format=bundle&nonce={NONCE}",
    ],
)
async def test_refused_parameter_is_named_and_not_quoted(running: Any, query: str) -> None:
    response = await running.get(f"/v1/attestation?{query}&canary=canary-value", None)
    assert response.status_code == 400
    assert error_of(response)["param"] in {"nonce", "format"}
    assert "canary-value" not in response.text


async def test_receipt_is_handed_to_its_owner(running: Any) -> None:
    answer = await running.chat()
    jti = answer.headers["x-receipt-id"]
    for name in (jti, answer.json()["id"]):
        response = await running.get(f"/v1/receipts/{name}")
        body = response.json()
        assert response.status_code == 200
        assert body.keys() == {"receipt", "openings", "state", "proof"}
        # The first epoch of a boot starts with its first receipt.
        assert body["state"] in {"sealed", "anchored"}
        assert (body["proof"] is None) == (body["state"] == "sealed")
        receipt = parse_receipt(body["receipt"])
        assert receipt.claims.jti == jti
        verify_receipt_signature(receipt, running.gateway.boot.evidence.keyset.receipt_key)


async def test_who_waits_gets_the_receipt_with_its_proof_in_the_quoted_log(running: Any) -> None:
    jti = (await running.chat()).headers["x-receipt-id"]
    response = await running.get(f"/v1/receipts/{jti}?wait=anchored")
    assert (response.status_code, response.json()["state"]) == (200, "anchored")
    bundle = parse_bundle((await running.get(f"/v1/receipts/{jti}?format=bundle")).content)
    (item,), (epoch,) = bundle.receipts, bundle.epochs
    keyset = running.gateway.boot.evidence.keyset
    proved = verify_tlog_proof(
        parse_tlog_proof(item.proof or ""),
        leaf_hash=leaf_hash(b"\x01" + item.receipt.digest.value),
        vkeys=[parse_vkey(keyset.log_vkey)],
        origin=running.gateway.boot.log_origin,
    )
    assert proved.index == item.receipt.claims.log.index
    assert (proved.checkpoint.size, proved.checkpoint.root) == (
        epoch.statement.size,
        epoch.statement.root.value,
    )
    shown = parse_bundle((await running.get("/v1/log/epoch/0", None)).content)
    assert shown.epochs == (epoch,)


async def test_the_log_over_http_is_the_log_that_the_quote_is_about(running: Any) -> None:
    jti = (await running.chat()).headers["x-receipt-id"]
    await running.get(f"/v1/receipts/{jti}?wait=anchored")
    latest = parse_bundle((await running.get("/v1/log/epoch/latest", None)).content)
    size = latest.epochs[0].statement.size
    checkpoint = parse_checkpoint(
        parse_note((await running.get("/v1/log/checkpoint", None)).text).text
    )
    assert checkpoint.origin == running.gateway.boot.log_origin
    assert checkpoint.size >= size
    tile = await running.get(f"/v1/log/tile/0/000.p/{size}", None)
    assert (
        root_hash(parse_hash_tile(tile.content, width=size))
        == latest.epochs[0].statement.root.value
    )
    entries = await running.get(f"/v1/log/tile/entries/000.p/{size}", None)
    digests = parse_entry_bundle(entries.content, width=size)
    assert digests[0] == b"\x00" + latest.boots[0].statement.digest.value
    assert [leaf_hash(entry) for entry in digests] == parse_hash_tile(tile.content, width=size)
    for path in ("tile/0/000", "tile/0/001", "tile/1/000.p/1", "tile/0/000.p/200"):
        assert (await running.get(f"/v1/log/{path}", None)).status_code == 404


async def test_receipt_comes_as_a_bundle_with_its_openings(running: Any) -> None:
    jti = (await running.chat()).headers["x-receipt-id"]
    response = await running.get(f"/v1/receipts/{jti}?format=bundle")
    bundle = parse_bundle(response.content)
    assert [item.jti for item in bundle.receipts] == [jti]
    assert bundle.receipts[0].openings is not None
    assert response.headers["content-type"] == MEDIA_TYPE


async def test_foreign_and_unknown_receipts_look_alike(running: Any) -> None:
    jti = (await running.chat()).headers["x-receipt-id"]
    foreign = await running.get(f"/v1/receipts/{jti}", "bob")
    unknown = await running.get(f"/v1/receipts/{secrets.token_hex(16)}", "bob")
    no_id = await running.get("/v1/receipts/nothing", "bob")
    assert foreign.status_code == unknown.status_code == no_id.status_code == 404
    assert foreign.content == unknown.content == no_id.content
    assert foreign.headers.keys() == unknown.headers.keys()


async def test_running_request_is_202_with_retry_after(running: Any) -> None:
    jti = secrets.token_hex(16)
    said = announcement(jti, running.sub("alice"), grant_digest=Grant().digest)
    running.gateway.notary.announce(said)
    response = await running.get(f"/v1/receipts/{jti}")
    assert (response.status_code, response.headers["retry-after"]) == (202, "1")
    assert response.json() == {"receipt": None, "openings": None, "proof": None, "state": "running"}
    assert (await running.get(f"/v1/receipts/{jti}", "bob")).status_code == 404
    bundle = await running.get(f"/v1/receipts/{jti}?format=bundle")
    assert (bundle.status_code, bundle.headers["retry-after"]) == (202, "1")
    assert bundle.json() == response.json()


@pytest.mark.parametrize("path", ["/v1/receipts/" + "0" * 32, "/v1/models"])
async def test_control_route_without_a_key_is_401_and_counted(running: Any, path: str) -> None:
    response = await running.get(path, None)
    assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    metrics = running.gateway.metrics.render().decode()
    assert "attested_unauthenticated_total 1.0" in metrics


async def test_models_are_the_engines_own_bytes_for_a_grant_of_all(running: Any) -> None:
    response = await running.get("/v1/models")
    engine = Upstream(parse_engine_url(running.engine_url))
    assert response.content == (await engine.get("/v1/models", request_id="x")).body
    engine.close()


async def test_models_outside_the_grant_are_left_out(running: Any) -> None:
    body = (await running.get("/v1/models", "bob")).json()
    assert [item["id"] for item in body["data"]] == ["m-two"]
    assert body["object"] == "list"


async def test_models_of_a_dead_engine_are_502(running: Any) -> None:
    await running.engine.close()
    response = await running.get("/v1/models")
    assert (response.status_code, error_of(response)["code"]) == (502, "connect")


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/redoc", "/metrics", "/tls/csr", "/v1/batches", "/v1"]
)
async def test_everything_else_is_404_in_openai_form(running: Any, path: str) -> None:
    response = await running.get(path)
    assert (response.status_code, error_of(response)["code"]) == (404, "not_found")


async def test_unknown_path_below_messages_is_404_in_anthropic_form(running: Any) -> None:
    response = await running.get("/v1/messages/batches")
    assert response.status_code == 404
    assert response.json()["type"] == "error"


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/v1/attestation", "/v1/receipts/x"])
async def test_other_methods_are_405_in_openai_form(running: Any, path: str) -> None:
    response = await running.client.post(path, headers=running.headers(), json={})
    assert response.status_code == 405
    assert error_of(response)["code"] == "method_not_allowed"


async def test_revoked_key_is_refused_without_restart(running: Any) -> None:
    assert (await running.get("/v1/models")).status_code == 200
    revoke_key(running.folder / "keys.json", name="alice", now=1)
    async with asyncio.timeout(60):
        while (await running.get("/v1/models")).status_code != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await running.get("/v1/models", "bob")).status_code == 200


async def test_health_and_readiness(running: Any) -> None:
    assert (await running.get("/healthz", None)).json() == {"status": "ok"}
    response = await running.get("/readyz", None)
    assert (response.status_code, response.json()["reasons"]) == (200, [])
    (running.folder / "keys.json").write_text("{}")
    async with asyncio.timeout(60):
        while (response := await running.get("/readyz", None)).status_code != 503:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (response.status_code, response.json()["reasons"]) == (503, ["keys_file"])


async def test_failing_disk_ends_the_boot_and_every_answer_becomes_503(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    disk = BrokenSegments()
    async with start(tmp_path, disk) as running:
        jti = (await running.chat()).headers["x-receipt-id"]
        disk.broken = True
        during = await running.chat()
        assert during.status_code == 503
        assert during.headers["x-should-retry"] == "false"
        assert "choices" not in during.json()
        assert (await running.chat()).status_code == 503
        for path in (f"/v1/receipts/{jti}", f"/v1/attestation?nonce={NONCE}"):
            response = await running.get(path)
            assert (response.status_code, error_of(response)["code"]) == (503, "notary_unavailable")
        ready = await running.get("/readyz", None)
        assert ready.json()["reasons"] == ["log_failed"]
        assert await running.gateway.wait_ended() == "log_failed"
        assert {"event": "boot.ended", "reason": "log_failed"}.items() <= (
            running.events()[-1].items()
        )


async def test_failure_inside_a_control_route_is_500_and_its_text_goes_nowhere(
    running: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("canary-text")

    monkeypatch.setattr(running.gateway.notary, "find", broken)
    response = await running.get("/v1/receipts/x")
    assert (response.status_code, error_of(response)["code"]) == (500, "internal")
    assert "canary-text" not in response.text + running.log.getvalue() + "".join(capfd.readouterr())
    assert running.events()[-1]["kind"] == "runtimeerror"


async def test_nothing_of_a_call_is_in_log_metrics_or_files(running: Any) -> None:
    canary = "canary-" + secrets.token_hex(8)
    answer = await running.chat(messages=[{"role": "user", "content": canary}], user=canary)
    assert answer.status_code == 200
    await running.chat(model=canary)
    await running.get(f"/v1/receipts/{canary}")
    await running.get(f"/v1/{canary}?{canary}={canary}")
    text = answer.json()["choices"][0]["message"]["content"]
    seen = running.log.getvalue() + running.gateway.metrics.render().decode()
    files = contents(running.folder / "data")
    assert any(path.suffix == ".seg" for path in files)
    seen += "".join(data.decode(errors="replace") for data in files.values())
    for token in (canary, text, *running.keys.values()):
        assert token not in seen


async def test_log_lines_are_json_with_declared_fields(running: Any) -> None:
    names = [event["event"] for event in running.events()]
    assert names == ["boot.started", "listening"]
    assert json.loads(running.log.getvalue().splitlines()[0])["provider"] == "simulated"
