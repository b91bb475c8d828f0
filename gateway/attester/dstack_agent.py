"""dstack's guest agent: JSON over HTTP/1.1 on a Unix socket, one request a connection.

The agent's own interface: `POST /GetQuote {"report_data"}`, `/EmitEvent {"event","payload"}`,
`/Version {}`, byte strings in hexadecimal.  It answers 200, or 400 with `{"error"}`.
"""

from __future__ import annotations

import json
import socket
import stat
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools

from attestation.encoding.strict_json import parse_json, parse_json_object
from attestation.errors import MalformedError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_ANSWER = 4 * 1024 * 1024
_CHUNK = 64 * 1024
NO_HTTP = (httptools.HttpParserError, httptools.HttpParserUpgrade)
_SHOWN = 200
_MAX_SOCKET_PATH = 107  # sun_path of unix(7), less its final zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP answer of the agent."""

    status: int
    body: bytes

    @property
    def words(self) -> str:
        """What the agent says went wrong, in printable ASCII and bounded."""
        try:
            document = parse_json(self.body)
        except MalformedError:
            document = None
        said = document.get("error") if isinstance(document, dict) else None
        text = said if isinstance(said, str) else self.body.decode("latin-1")
        return ascii(text[:_SHOWN])[1:-1] or "an empty answer"


class AgentRefusedError(UnavailableError):
    """The agent answered, and the answer was no; `status` is HTTP's."""

    def __init__(self, method: str, answer: Answer) -> None:
        super().__init__(
            f"the dstack agent refused {method}",
            code="dstack_refused",
            expected=f"HTTP {HTTPStatus.OK}",
            observed=f"HTTP {answer.status}: {answer.words}",
            hint="look into the guest agent's log (journalctl -u dstack-guest-agent)",
        )
        self.status = answer.status


class Agent:
    """The agent behind one socket.  `timeout` bounds each request as a whole, in seconds."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        """Refuse a path that no socket can have (`UsageError`); nothing is opened yet."""
        if len(bytes(path)) > _MAX_SOCKET_PATH:
            raise UsageError(
                "the path of the dstack socket is too long",
                code="provider",
                expected=f"at most {_MAX_SOCKET_PATH} bytes",
                observed=f"{len(bytes(path))} bytes",
            )
        self.path = path
        self._timeout = timeout

    def require_socket(self) -> None:
        """Raise `UnavailableError` unless there is a socket; nothing is said to it."""
        try:
            mode = self.path.stat().st_mode
        except OSError as error:
            raise _unreachable(self.path, "opening", error) from error
        if not stat.S_ISSOCK(mode):
            raise UnavailableError(
                f"{self.path} is no socket",
                code="dstack_socket",
                expected="a socket of dstack's guest agent",
                hint="mounted before the agent ran? Docker then makes a folder of that name",
            )

    def ask(self, method: str, arguments: Mapping[str, str]) -> dict[str, Any]:
        """Return the JSON object that the agent answers; raises `UnavailableError`."""
        answer = self._answer(method, arguments)
        try:
            return parse_json_object(answer.body)
        except MalformedError as error:
            raise UnavailableError(
                f"the dstack agent's answer to {method} cannot be read",
                code="dstack_answer",
                expected=error.expected or "one JSON object",
                observed=error.observed or error.message,
                hint=f"is {self.path} the socket of a dstack guest agent?",
            ) from error

    def tell(self, method: str, arguments: Mapping[str, str]) -> None:
        """Have the agent do something that it answers with nothing but success."""
        self._answer(method, arguments)

    def _answer(self, method: str, arguments: Mapping[str, str]) -> Answer:
        body = json.dumps(dict(arguments), ensure_ascii=True).encode("ascii")
        head = (
            f"POST /{method} HTTP/1.1\r\nhost: dstack\r\ncontent-type: application/json\r\n"
            f"accept: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        answer = self._exchange(method, head.encode("ascii") + body)
        if answer.status != HTTPStatus.OK:
            raise AgentRefusedError(method, answer)
        return answer

    def _exchange(self, method: str, request: bytes) -> Answer:
        deadline = time.monotonic() + self._timeout
        reading = Reading()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._timeout)
                connection.connect(str(self.path))
                connection.sendall(request)
                while not reading.complete:
                    connection.settimeout(_left(deadline))
                    reading.feed(connection.recv(_CHUNK))
        except TimeoutError as error:
            raise UnavailableError(
                f"the dstack agent did not answer {method} in time",
                code="dstack_timeout",
                expected=f"an answer within {self._timeout:g} s",
                hint="?timeout= of evidence.provider allows more; else look at the quoting service",
            ) from error
        except OSError as error:
            raise _unreachable(self.path, method, error) from error
        except (MalformedError, *NO_HTTP) as error:
            raise UnavailableError(
                f"the dstack agent's answer to {method} is not whole",
                code="dstack_answer",
                expected=f"an HTTP answer of at most {MAX_ANSWER} bytes, to its end",
                observed=error.message if isinstance(error, MalformedError) else "no HTTP",
                hint=f"is {self.path} the socket of a dstack guest agent? Did it stop?",
            ) from error
        return reading.answer


class Reading:
    """An answer as it comes in, never more of it than `MAX_ANSWER`."""

    def __init__(self) -> None:
        self.complete = False
        self._body = bytearray()
        self._seen = self._begun = 0
        self._parser = httptools.HttpResponseParser(self)

    @property
    def answer(self) -> Answer:
        """What came in, once it is `complete`."""
        return Answer(status=self._parser.get_status_code(), body=bytes(self._body))

    def feed(self, data: bytes) -> None:
        """Take what the socket gave; raises `MalformedError` at an early end or too much."""
        self._seen += len(data)
        if not data:
            raise MalformedError(f"it ended after {self._seen} bytes", code="dstack_answer")
        if self._seen > MAX_ANSWER:
            raise MalformedError(f"more than {MAX_ANSWER} bytes", code="dstack_answer")
        self._parser.feed_data(data)
        if self._begun > 1:
            raise MalformedError("more than one answer", code="dstack_answer")

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._begun += 1

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        self._body += data

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.complete = True


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _unreachable(path: Path, method: str, error: OSError) -> UnavailableError:
    what, hint = f"the dstack agent broke off at {method}", "look at the guest agent and retry"
    if isinstance(error, FileNotFoundError):
        what = f"there is no dstack agent's socket at {path}"
        hint = (
            "outside of dstack use another evidence.provider; in a container mount the socket, "
            "for example volumes: /var/run/dstack.sock:/var/run/dstack.sock"
        )
    elif isinstance(error, PermissionError):
        what = f"the dstack agent's socket {path} may not be opened"
        hint = "give the user of the notary, and nobody else, access to it"
    elif isinstance(error, ConnectionRefusedError):
        what = f"nobody listens at the dstack agent's socket {path}"
        hint = "the guest agent has stopped, or this is no socket of one"
    return UnavailableError(
        what,
        code="dstack_socket",
        expected="a socket of dstack's guest agent",
        observed=error.strerror or "an I/O error",
        hint=hint,
    )
