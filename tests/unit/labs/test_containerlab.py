"""Finding a containerlab that will do, and what of its output is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs import containerlab
from labs.errors import DeployFailed, PreflightFailed


def program(folder: Path, text: str) -> Path:
    path = folder / "containerlab"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAILBED_CONTAINERLAB", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
    monkeypatch.setattr(containerlab, "OURS", tmp_path / "ours")


@pytest.mark.parametrize(
    ("version", "will_do"), [("0.78.9", False), ("0.79.0", True), ("0.79.1", True), ("0.100.0", True), ("1.0.0", True)]
)
def test_versions_are_numbers(version: str, will_do: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILBED_CONTAINERLAB", str(program(tmp_path, f"echo 'version: {version}'")))
    if will_do:
        assert containerlab.find().version == tuple(map(int, version.split(".")))
        return
    with pytest.raises(PreflightFailed, match=f"is {version}, 0.79.0 or newer is needed"):
        containerlab.find()


def test_none_is_installed() -> None:
    with pytest.raises(PreflightFailed, match="containerlab is not installed"):
        containerlab.find()


@pytest.mark.parametrize("text", ["exit 1", "echo nonsense", "echo version: new"])
def test_a_program_that_says_no_version(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILBED_CONTAINERLAB", str(program(tmp_path, text)))
    with pytest.raises(PreflightFailed, match="does not say its version"):
        containerlab.find()


def test_an_old_one_on_path_does_not_hide_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "echo version: 0.50.0")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    program(tmp_path, f"echo version: 0.79.0; echo commit: {containerlab.MARK}").rename(tmp_path / "ours")
    assert containerlab.find().path == tmp_path / "ours"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (["12:00 INFO a", "12:00 ERRO node dies"], "node dies"),
        (["12:00 INFO a", "  ", "   ERROR  ", "  bad", "  bind"], "bad bind"),
        (["panic: oh"], "panic: oh"),
        ([], "exited 7"),
    ],
)
def test_the_reason_of_a_failure(said: list[str], reason: str) -> None:
    assert containerlab._reason(said, 7) == reason


def test_a_call_that_fails_raises_with_its_reason(tmp_path: Path) -> None:
    fails = containerlab.Program(
        program(tmp_path, "echo '12:00:00 \033[1mERRO\033[0m no bridge' >&2; exit 3"), (0, 79, 0)
    )
    heard: list[str] = []
    pids: list[int] = []
    with pytest.raises(DeployFailed, match="containerlab deploy: no bridge"):
        containerlab.call(fails, ("deploy",), token="t:1", folder=tmp_path, started=pids.append, line=heard.append)
    assert heard == ["12:00:00 ERRO no bridge"]
    assert len(pids) == 1


def test_children_get_the_token_and_little_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("DOCKER_HOST", "unix:///x")
    found = containerlab.environment("lab:1", tmp_path)
    assert found["RAILBED_TOKEN"] == "lab:1"
    assert found["DOCKER_HOST"] == "unix:///x"
    assert "SECRET" not in found
