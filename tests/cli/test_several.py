"""`attested verify` on many files: one at a time, what they share shown once, and how far it is."""

from __future__ import annotations

import pytest

from attestation.bundle import Bundle, parse_evidence
from attestation.cli import progress, verify
from attestation.cli.main import main
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError
from attestation.tdx.collateral import Collateral
from attestation.tdx.dcap import GenuineQuote, verify_quote
from attestation.tdx.quote import Quote, parse_quote
from attestation.verifier import memory
from attestation.verifier.memory import QuoteMemory
from tests.cli.support import Folder, printed
from tests.support.bundles import NOW, Gateway


class Month:
    """A folder of files with one boot and some receipts each, as an exporter leaves it."""

    def __init__(self, folder: Folder, files: int) -> None:
        self.gateway, self.folder = folder.gateway, folder
        (folder.path / "month").mkdir()
        for number in range(files):
            self.gateway.plain()
            item = self.gateway.exchanged[-1].item
            data = self.gateway.bundle(receipts=[item]).encode()
            folder.write(f"month/{number:03}.json", data)
        self.path = str(folder.path / "month")


@pytest.fixture
def month(folder: Folder) -> Month:
    return Month(folder, 3)


def test_folder_stands_for_its_files_in_order(
    month: Month, capsys: pytest.CaptureFixture[str]
) -> None:
    assert month.folder.verify_all([month.path], "--json") == 15
    value = printed(capsys)
    names = [str(month.folder.path / "month" / f"00{n}.json") for n in range(3)]
    assert [one["file"] for one in value["results"]] == names
    assert (value["verdict"], value["exit_code"]) == ("SIMULATED", 15)
    assert value["schema"] == "attested-gateway/attestation-results/v1"


def test_folder_that_a_call_left_stands_for_its_bundle(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder.path / "run"
    run.mkdir()
    for name, data in {
        "bundle.json": folder.gateway.bundle().encode(),
        "openings.json": b"{}",
    }.items():
        (run / name).write_bytes(data)
    (run / "receipt.jws").write_bytes(folder.first.item.receipt.token.encode())
    assert folder.verify_all([str(run)], "--json") == 15
    assert printed(capsys)["file"] == str(run / "bundle.json")


def test_locks_and_hidden_files_of_a_folder_are_no_evidence(
    month: Month, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("month/seen.json.lock", "month/.hidden"):
        month.folder.write(name, b"")
    assert month.folder.verify_all([month.path], "--json") == 15
    assert len(printed(capsys)["results"]) == 3


def test_folder_without_files_is_a_usage_error(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.path / "empty" / "inner").mkdir(parents=True)
    assert main(["verify", str(folder.path / "empty")]) == 2
    assert "no files" in capsys.readouterr().err


def test_file_that_is_missing_is_said_before_the_first_verdict(
    month: Month, capsys: pytest.CaptureFixture[str]
) -> None:
    assert month.folder.verify_all([month.path, str(month.folder.path / "absent")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "absent" in output.err


def test_file_that_may_not_be_read_is_said_before_the_first_verdict(
    month: Month, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attestation.cli.several.os.access", lambda *_: False)
    assert month.folder.verify_all([month.path]) == 2
    assert "no right to read it" in capsys.readouterr().err


def test_what_was_not_compared_is_said(month: Month, capsys: pytest.CaptureFixture[str]) -> None:
    item = month.gateway.seal(month.gateway.outcome(request=b"{}"), index=1)
    contradicting = month.gateway.bundle(receipts=[item]).encode()
    month.folder.write("month/other.json", contradicting)
    assert month.folder.verify_all([month.path]) == 15
    text = capsys.readouterr().out
    assert "contradict those of another" in text
    assert "`attested bundle`" in text
    assert month.folder.verify_all([month.path], "--json") == 15
    assert "was not compared" in printed(capsys)["not_compared"]


def test_file_is_read_only_when_those_before_it_are_told(
    month: Month, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def parse(data: bytes) -> Bundle:
        told.append(capsys.readouterr().out.count("(exit 15)"))
        return parse_evidence(data)

    monkeypatch.setattr(verify, "parse_evidence", parse)
    assert month.folder.verify_all([month.path]) == 15
    assert told == [0, 1, 1]


def test_boot_of_many_files_is_quoted_once(month: Month, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Digest] = []

    def counted(quote: Quote, collateral: Collateral, at: int, anchor: object) -> GenuineQuote:
        if at == NOW + 60:
            seen.append(quote.digest)
        return verify_quote(quote, collateral, at, anchor)  # type: ignore[arg-type]

    monkeypatch.setattr(memory, "verify_quote", counted)
    assert month.folder.verify_all([month.path]) == 15
    assert seen == [month.gateway.quote_digest]


def test_progress_is_said_where_it_is_asked_for_and_never_on_stdout(
    month: Month, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0.0)
    assert month.folder.verify_all([month.path], "--json", "--progress") == 15
    output = capsys.readouterr()
    assert output.err.startswith("verified ")
    assert output.out.startswith('{"results"')
    assert month.folder.verify_all([month.path], "--json") == 15
    assert capsys.readouterr().err == ""


def test_terminal_is_told_how_far_it_is_unless_it_shows_the_report(
    month: Month, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert month.folder.verify_all([month.path], "--json") == 15
    assert "verified " in capsys.readouterr().err
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert month.folder.verify_all([month.path], "--json") == 15
    assert "verified " not in capsys.readouterr().err


# --- what is remembered of a quote ---------------------------------------------------------------


def _shown(made: Gateway) -> tuple[Quote, Collateral]:
    return parse_quote(made.evidence.quote), made.machine.collateral()


def test_remembered_quote_is_the_one_that_was_shown() -> None:
    made, known = Gateway(), QuoteMemory()
    quote, collateral = _shown(made)
    first = known.verify(quote, collateral, NOW, made.anchor)
    assert known.verify(quote, collateral, NOW, made.anchor) is first


def test_quote_with_one_other_byte_is_not_remembered() -> None:
    made, known = Gateway(), QuoteMemory()
    quote, collateral = _shown(made)
    known.verify(quote, collateral, NOW, made.anchor)
    raw = bytearray(made.evidence.quote)
    raw[700] ^= 1
    with pytest.raises(EvidenceError):
        known.verify(parse_quote(bytes(raw)), collateral, NOW, made.anchor)


def test_other_endorsements_another_instant_or_another_root_are_judged_anew() -> None:
    made, known = Gateway(), QuoteMemory()
    quote, collateral = _shown(made)
    known.verify(quote, collateral, NOW, made.anchor)
    later = NOW + 400 * 86_400
    with pytest.raises(EvidenceError):
        known.verify(quote, collateral, later, made.anchor)
    with pytest.raises(EvidenceError):
        known.verify(quote, Gateway(seed="b").machine.collateral(), NOW, made.anchor)
    with pytest.raises(EvidenceError):
        known.verify(quote, collateral, NOW, Gateway(seed="b").anchor)


def test_refusal_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    made, known = Gateway(), QuoteMemory()
    quote, collateral = _shown(made)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "verify_quote", _refuse)
        with pytest.raises(EvidenceError):
            known.verify(quote, collateral, NOW, made.anchor)
    assert known.verify(quote, collateral, NOW, made.anchor).trust_domain == "simulated"


def test_oldest_quote_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Quote] = []
    boots = [Gateway(seed=seed) for seed in "abc"]

    def counted(quote: Quote, *more: object) -> GenuineQuote:
        seen.append(quote)
        return verify_quote(quote, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(memory, "verify_quote", counted)
    known = QuoteMemory(most=2)
    for made in [*boots, boots[2], boots[1], boots[0]]:
        known.verify(*_shown(made), NOW, made.anchor)
    assert len(seen) == 4


def _refuse(*_: object) -> GenuineQuote:
    raise EvidenceError("not today", code="other")


def test_empty_name_is_not_the_folder_one_happens_to_be_in(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder["bodies"])
    assert main(["verify", "", *folder.grounds]) == 2
    assert "cannot read ''" in capsys.readouterr().err
