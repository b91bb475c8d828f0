"""The log over HTTP: exactly its resources, to anybody, and nothing else under any spelling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from attestation.bundle import MEDIA_TYPE, merge_bundles, parse_bundle
from attestation.errors import UnavailableError
from gateway.errors import NotaryUnavailable
from tests.api.fakes import Faked, FakeNotary, epoch_of, faked
from tests.support.bundles import Gateway

CHECKPOINT = "gateway.example/0011\n7\nAAAA\n\n— signature\n".encode()
TILE = bytes(range(256)) * 32
RESOURCES = {
    "checkpoint": CHECKPOINT,
    "tile/0/000": TILE,
    "tile/0/x001/067.p/3": TILE[:96],
    "tile/1/000.p/1": TILE[:32],
    "tile/entries/000": b"entries",
    "tile/entries/x001/067.p/3": b"partial",
}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Faked]:
    gateway = Gateway()
    notary = FakeNotary(gateway=gateway, resources=dict(RESOURCES))
    notary.epochs = [epoch_of(gateway, number) for number in range(3)]
    async with faked(tmp_path, notary) as running:
        yield running


@pytest.mark.parametrize("path", sorted(RESOURCES))
async def test_a_resource_of_the_log_comes_byte_for_byte_without_a_key(
    served: Faked, path: str
) -> None:
    response = await served.get(f"/v1/log/{path}", headers={"authorization": ""})
    assert response.status_code == 200
    assert response.content == RESOURCES[path]
    text = "text/plain; charset=utf-8"
    wanted = text if path == "checkpoint" else "application/octet-stream"
    assert response.headers["content-type"] == wanted
    assert response.headers["x-keyset-digest"] == served.notary.gateway.keyset.digest.hex
    assert served.notary.asked == [path]


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000", "epoch/latest", "epoch/1"])
async def test_head_says_what_get_says_and_sends_no_body(served: Faked, path: str) -> None:
    head = await served.client.head(f"/v1/log/{path}")
    got = await served.get(f"/v1/log/{path}")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers == got.headers


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000", "tile/0/x001/067.p/3", "epoch/1"])
async def test_what_a_cache_holds_is_asked_about_again_because_the_next_boots_log_stands_there(
    served: Faked, path: str
) -> None:
    first = await served.get(f"/v1/log/{path}")
    assert first.headers["cache-control"] == "public, no-cache"
    tag = first.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = await served.get(f"/v1/log/{path}", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    other = await served.get(f"/v1/log/{path}", headers={"if-none-match": '"other"'})
    assert other.content == first.content


async def test_another_boots_tile_at_the_same_address_has_another_tag(served: Faked) -> None:
    tag = (await served.get("/v1/log/tile/0/000")).headers["etag"]
    served.notary.resources["tile/0/000"] = TILE[::-1]
    after = await served.get("/v1/log/tile/0/000", headers={"if-none-match": tag})
    assert (after.status_code, after.content) == (200, TILE[::-1])


@pytest.mark.parametrize(
    "target",
    [
        "/v1/log",
        "/v1/log/",
        "/v1/log/checkpoint/",
        "/v1/log/Checkpoint",
        "/v1/log/check%70oint",
        "/v1/log/checkpoint%00",
        "/v1/log/checkpoint.p/1",
        "/v1/log/tile/0/%30%30%30",
        "/v1/log/tile/0/0",
        "/v1/log/tile/0/0000",
        "/v1/log/tile/0/x000/000",
        "/v1/log/tile/0/000.p/256",
        "/v1/log/tile/0/000.p/0",
        "/v1/log/tile/0/000.p/01",
        "/v1/log/tile/00/000",
        "/v1/log/tile/64/000",
        "/v1/log/tile/-1/000",
        "/v1/log/tile/entries/000/",
        "/v1/log/tile/../checkpoint",
        "/v1/log/tile/0/../0/000",
        "/v1/log/..%2f..%2fboot.json",
        "/v1/log/tile/entries/%2e%2e/%2e%2e/boot.json",
        "/v1/log/boot.json",
        "/v1/log/../segments/000000.seg",
        "/v1/log/tile/0/001",
        "/v1/log/epoch/",
        "/v1/log/epoch/03",
        "/v1/log/epoch/3",
        "/v1/log/epoch/-1",
        "/v1/log/epoch/+1",
        "/v1/log/epoch/1.0",
        "/v1/log/epoch/%31",
        "/v1/log/epoch/%D9%A1",
        "/v1/log/epoch/9007199254740993",
        "/v1/log/epoch/99999999999999999999999999",
        "/v1/log/epoch/Latest",
        "/v1/log/epoch/latest/",
        "/v1/log/epoch/1/../2",
    ],
)
async def test_no_other_spelling_is_a_resource_and_no_path_goes_further_unparsed(
    served: Faked, target: str
) -> None:
    answer = await asyncio.to_thread(served.raw, target)
    assert answer.startswith(b"HTTP/1.1 404 "), answer[:80]
    assert b'"not_found"' in answer
    assert set(served.notary.asked) <= {"tile/0/001"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_written_to_the_log_over_http(served: Faked, method: str) -> None:
    response = await served.client.request(method, "/v1/log/checkpoint")
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"


async def test_an_epoch_comes_as_a_bundle_with_its_boot_and_endorsements(served: Faked) -> None:
    gateway, epochs = served.notary.gateway, served.notary.epochs
    for name, epoch in (("0", epochs[0]), ("1", epochs[1]), ("latest", epochs[2])):
        response = await served.get(f"/v1/log/epoch/{name}")
        assert response.headers["content-type"] == MEDIA_TYPE
        bundle = parse_bundle(response.content)
        assert bundle.boots == (gateway.evidence,)
        assert bundle.epochs == (epoch,)
        assert set(bundle.collateral) == {gateway.machine.collateral().digest}
        assert not bundle.receipts


async def test_downloaded_epochs_merge_into_one_range(served: Faked) -> None:
    parts = [
        parse_bundle((await served.get(f"/v1/log/epoch/{number}")).content) for number in range(3)
    ]
    merged = merge_bundles(*parts)
    assert merged.epochs == tuple(served.notary.epochs)
    assert len(merged.boots) == 1


async def test_before_the_first_epoch_there_is_no_latest_one(served: Faked) -> None:
    served.notary.epochs.clear()
    response = await served.get("/v1/log/epoch/latest")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnavailableError("/secret/path", code="log_unreadable"), "log_unreadable"),
        (NotaryUnavailable("/secret/path"), "notary_unavailable"),
    ],
)
async def test_a_log_that_cannot_be_read_is_503_and_names_no_file(
    served: Faked, error: Exception, code: str
) -> None:
    served.notary.resources["checkpoint"] = error
    response = await served.get("/v1/log/checkpoint")
    assert (response.status_code, response.json()["error"]["code"]) == (503, code)
    assert "quote" not in response.json()["error"]["message"]
    assert "/secret" not in response.text
