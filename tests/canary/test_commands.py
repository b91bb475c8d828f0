"""The commands of an auditor say what is wrong with a file without quoting what is in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.cli.main import main
from attestation.encoding.base64url import encode
from tests.canary.search import Canary, hits
from tests.support.bundles import NOW, Exchanged, Gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A folder with a bundle, its bodies, policy and root; the bodies are full of the token."""

    folder: Path
    canary: Canary
    exchanged: tuple[Exchanged, Exchanged]
    grounds: tuple[str, ...]

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    @property
    def secrets(self) -> list[bytes]:
        openings = [one.item.openings for one in self.exchanged]
        keys = [key for found in openings if found is not None for key in found.keys.values()]
        return [self.canary.hidden.encode(), *keys]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("ATTESTED_DEBUG", "1")
    canary = Canary()
    token = canary.hidden
    request = json.dumps({"model": "m", "messages": [{"content": token}], token: token}).encode()
    answer = json.dumps({"choices": [{"message": {"content": token}}]}).encode()
    frames = (b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % token.encode(),)
    gateway = Gateway()
    plain = gateway.plain(request, answer)
    stream = gateway.stream((*frames, b"data: [DONE]\n\n"))
    files = {
        "bundle.json": gateway.bundle().encode(),
        "request": request,
        "answer": answer,
        "stream": stream.response,
        "policy.toml": gateway.policy_toml().encode(),
        "root.pem": gateway.anchor.certificate.public_bytes(Encoding.PEM),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    grounds = (
        *("--policy", str(tmp_path / "policy.toml"), "--root", str(tmp_path / "root.pem")),
        *("--at", str(NOW + 60)),
    )
    return Desk(folder=tmp_path, canary=canary, exchanged=(plain, stream), grounds=grounds)


Run = Callable[..., int]


@pytest.fixture
def run(desk: Desk, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command and search what it said; gives its exit code."""

    def command(*arguments: str) -> int:
        code = main(arguments)
        said = capsys.readouterr()
        places = {"stdout": said.out.encode(), "stderr": said.err.encode()}
        assert any(places.values())
        assert [hits(secret, places) for secret in desk.secrets if hits(secret, places)] == []
        return code

    return command


def test_search_would_find_a_command_that_quotes(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    print((desk.folder / "request").read_text())  # noqa: T201 - the leak to be found
    said = capsys.readouterr().out.encode()
    assert hits(desk.canary.hidden.encode(), {"stdout": said})


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_verify_names_neither_bodies_nor_openings(
    desk: Desk, run: Run, form: tuple[str, ...]
) -> None:
    bundle, (plain, stream) = str(desk.folder / "bundle.json"), desk.exchanged
    request, answer = str(desk.folder / "request"), str(desk.folder / "answer")
    held = ("--request", request, "--response")
    about = ("--receipt", plain.jti)
    assert run("verify", bundle, *desk.grounds, *about, *held, answer, *form) == 15
    changed = desk.write("changed", plain.response[:-1] + b" ")
    assert run("verify", bundle, *desk.grounds, *about, *held, changed, *form) == 10
    shorter = desk.write("shorter", plain.response[:-3])
    assert run("verify", bundle, *desk.grounds, *about, *held, shorter, *form) == 10
    streamed = ("--receipt", stream.jti, "--response")
    assert run("verify", bundle, *desk.grounds, *streamed, str(desk.folder / "stream"), *form) == 15
    cut = desk.write("cut", stream.response[:-30])
    assert run("verify", bundle, *desk.grounds, *streamed, cut, *form) == 10
    assert run("verify", bundle, *desk.grounds, *streamed, answer, *form) == 10


WRONG_FILES: dict[str, Callable[[Desk], bytes]] = {
    "a request": lambda desk: (desk.folder / "request").read_bytes(),
    "an answer": lambda desk: (desk.folder / "answer").read_bytes(),
    "a stream": lambda desk: (desk.folder / "stream").read_bytes(),
    "bare text": lambda desk: desk.canary.hidden.encode(),
    "three parts": lambda desk: b".".join([encode(desk.canary.hidden.encode()).encode()] * 3),
    "a string": lambda desk: json.dumps(desk.canary.hidden).encode(),
    "broken JSON": lambda desk: b'{"%b' % desk.canary.hidden.encode(),
    "a doubled member": lambda desk: b'{"%b":1,"%b":2}' % ((desk.canary.hidden.encode(),) * 2),
    "a bundle with a prompt in it": lambda desk: (
        (desk.folder / "bundle.json")
        .read_bytes()
        .replace(b'"tasks":[]', b'"tasks":["%b"]' % desk.canary.hidden.encode())
    ),
    "a receipt of text": lambda desk: json.dumps(
        {"receipt": desk.canary.hidden, "openings": {"req": desk.canary.hidden}}
    ).encode(),
    "hexadecimal": lambda desk: desk.canary.hidden.encode().hex().encode(),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_file_that_is_something_else_is_refused_without_a_quotation(
    desk: Desk, run: Run, case: str
) -> None:
    wrong = desk.write("wrong", WRONG_FILES[case](desk))
    bundle = str(desk.folder / "bundle.json")
    assert run("verify", wrong, *desk.grounds) == 13
    assert run("verify", bundle, wrong, *desk.grounds, "--json") == 13
    assert run("inspect", wrong) == 13
    assert run("bundle", bundle, wrong, "--out", str(desk.folder / "out")) == 13
    assert run("quote", wrong, "--at", str(NOW)) in (12, 13)
    assert run("verify", bundle, "--policy", wrong) == 13
    assert run("verify", bundle, "--root", wrong) == 13
    assert run("verify", bundle, *desk.grounds, "--endorsements", wrong) == 13


def test_inspect_shows_a_bundle_without_its_openings(desk: Desk, run: Run) -> None:
    assert run("inspect", str(desk.folder / "bundle.json")) == 0
    openings = desk.exchanged[0].item.openings
    assert openings is not None
    assert run("inspect", desk.write("openings", json.dumps(openings.to_json()).encode())) == 0
    assert run("inspect", desk.write("header", openings.encode_header().encode())) == 0
