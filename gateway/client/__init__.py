"""For applications and agents: unchanged SDK clients whose every answer has a checked receipt.

    trust = load_trust(Path("policy.toml"))
    session = Session.connect("https://gateway:8443", trust)
    client = openai.OpenAI(
        base_url=session.base_url, api_key=key, http_client=session.http_client()
    )

For clients built on the older `httpx`, take the transports of `gateway.client.legacy`.
"""

from gateway.client.anchor import AnchorReport
from gateway.client.call import Anchoring, Call, Ended
from gateway.client.judge import Trust, load_trust
from gateway.client.recorder import Recorder
from gateway.client.session import Session
from gateway.client.transport import AsyncReceiptTransport, ReceiptTransport

__all__ = [
    "AnchorReport",
    "Anchoring",
    "AsyncReceiptTransport",
    "Call",
    "Ended",
    "ReceiptTransport",
    "Recorder",
    "Session",
    "Trust",
    "load_trust",
]
