"""Unmodified clients of a served gateway."""

from __future__ import annotations

import openai

from gateway.client.session import Session
from tests.support.serving import Served, add_key, wait_until


def openai_client(session: Session, key: str) -> openai.OpenAI:
    """The unmodified OpenAI client, which repeats nothing: every failure would be seen."""
    return openai.OpenAI(
        base_url=session.base_url, api_key=key, http_client=session.http_client(), max_retries=0
    )


def new_key(served: Served, label: str) -> str:
    """Another key that may do everything, once the running gateway knows it."""
    key = add_key(served.folder, "--label", label)

    def known() -> bool:
        with served.connect().http_client() as http:
            answer = http.get(f"{served.url}/v1/models", headers={"authorization": f"Bearer {key}"})
            return answer.status_code == 200

    wait_until(known)
    return key
