"""Audit of dstack (findings 2 and 6 of January 2026), dcap-qvl 97: the attested party named the
address that endorsements were fetched from, and TLS errors on the way were ignored.

Lesson: evidence names no address and no root.  Verification opens no socket at all.
"""

from __future__ import annotations

import socket
from typing import Any, NoReturn

import pytest

from attestation.encoding import jcs
from attestation.result import Verdict
from attestation.tdx.anchor import INTEL_ANCHOR
from tests.support.bundles import Gateway, failed
from tests.tamper.folder import judge
from tests.tamper.folders import folder_of

GATEWAY = Gateway()
GATEWAY.plain()
FOLDER = folder_of(GATEWAY)


@pytest.mark.parametrize("name", ["root", "anchor", "pccs_url", "collateral_url", "policy", "at"])
def test_file_has_no_place_for_an_address_a_root_or_a_policy(name: str) -> None:
    document = FOLDER.document()
    for place in (document, document["boots"][0], document["boots"][0]["statement"],
                  *document["collateral"].values()):  # fmt: skip
        place[name] = "https://attacker.example/"
        assert judge(FOLDER.but(jcs.canonicalize(document))) == 13
        del place[name]
    assert judge(FOLDER) == 15


def test_root_inside_the_evidence_is_never_an_anchor() -> None:
    result = GATEWAY.verify(anchors=[INTEL_ANCHOR])
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"QUOTE-GENUINE"}
    assert result.trust_domains == frozenset()


def test_verification_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    assert judge(FOLDER) == 15
