"""What the engine's errors become."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import requests

from labs import engine
from labs.errors import DeployFailed, NotReady, PreflightFailed


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    engine.client.cache_clear()
    yield
    engine.client.cache_clear()


def test_the_engine_is_the_workstations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert engine.address() == engine.DEFAULT
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/user/1000/docker.sock")
    assert engine.address() == "unix:///run/user/1000/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    with pytest.raises(PreflightFailed, match="not this workstation's"):
        engine.address()
    assert engine.missing() is not None


def test_no_socket(tmp_path: Path) -> None:
    assert "is not there" in (engine.missing(f"unix://{tmp_path}/none") or "")


def test_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    assert "does not answer (Connection refused)" in (engine.missing(f"unix://{tmp_path}/dead") or "")


def test_an_engine_that_hangs_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "rude"))
        server.listen()

        def hang_up() -> None:
            server.accept()[0].close()

        rude = threading.Thread(target=hang_up)
        rude.start()
        assert "does not answer" in (engine.missing(f"unix://{tmp_path}/rude") or "")
        rude.join()


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (docker.errors.APIError("x", explanation="no space left on device"), DeployFailed, "make room"),
        (docker.errors.APIError("x", explanation="conflict"), DeployFailed, "conflict"),
        (docker.errors.DockerException("boom"), NotReady, "boom"),
        (requests.ConnectionError("gone"), NotReady, "gone"),
        (requests.ConnectionError(PermissionError(13, "denied")), PreflightFailed, "permission denied"),
    ],
)
def test_errors_in_our_words(raised: Exception, expected: type[Exception], words: str) -> None:
    with pytest.raises(expected, match=words), engine.asking("unix:///x"):
        raise raised


def test_a_child_asks_over_connections_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that a fork has inherited shares its parent's connections: answers would reach the wrong one."""
    (tmp_path / "socket").touch()
    monkeypatch.setattr(docker, "DockerClient", lambda **_: object())
    ours = engine.client(f"unix://{tmp_path}/socket")
    assert engine.client(f"unix://{tmp_path}/socket") is ours
    child = os.fork()
    if child == 0:
        try:
            os._exit(int(engine.client(f"unix://{tmp_path}/socket") is ours))
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.WEXITSTATUS(status) == 0
    assert engine.client(f"unix://{tmp_path}/socket") is ours
