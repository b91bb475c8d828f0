"""How a boot of the GPU image without a GPU is judged: only a machine that ended, and for that."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import image_without_gpu
import pytest
from image_files import ImageError
from image_machine import free_port
from image_without_gpu import REFUSED, answers, require_closed, require_refused

ENDED = b"[ 9.1] modprobe: ERROR: could not insert 'nvidia': No such device\n[ 9.2] " + REFUSED[0]


class Guest:
    """A machine that ends after so many looks at it."""

    def __init__(self, looks: int, console: bytes, port: int) -> None:
        self.looks = looks
        self.text = console
        self.port = port

    def console(self) -> bytes:
        return self.text

    def wait_ended(self, _seconds: float) -> bool:
        self.looks -= 1
        return self.looks <= 0


@pytest.fixture
def served() -> Iterator[int]:
    """A port that answers whoever asks."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]


def test_machine_that_ends_for_want_of_a_gpu_is_what_is_wanted() -> None:
    said = require_closed(Guest(3, ENDED, free_port()), 60.0)
    assert "could not insert 'nvidia'" in said
    assert said.endswith(
        "no GPU: nvidia-persistenced.service failed, the machine ended, its port never answered"
    )


def test_port_that_answers_is_refused_though_the_machine_would_end(served: int) -> None:
    with pytest.raises(ImageError, match="something answers"):
        require_closed(Guest(2, ENDED, served), 60.0)


def test_machine_that_goes_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_without_gpu, "answers", lambda _port: False)
    with pytest.raises(ImageError, match="but it runs"):
        require_closed(Guest(1000, ENDED, free_port()), 0.0)


@pytest.mark.parametrize(
    "console",
    [
        b"",
        b"attested-notary.service: Failed with result 'exit-code'.",
        ENDED + b"\nStarted attested-gateway.service",
        ENDED + b"\nStarted vllm.service",
    ],
)
def test_machine_that_ended_otherwise_is_refused(console: bytes) -> None:
    with pytest.raises(ImageError, match="expected a unit of the GPU's to fail"):
        require_refused(console)


def test_connection_that_is_taken_and_closed_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        assert not answers(server.getsockname()[1])
        thread.join()
