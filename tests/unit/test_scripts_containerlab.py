"""The scripts that set containerlab up, where they must change nothing: no engine, no root and no internet needed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_ENGINE = "unix:///nonexistent"


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    dropped = {"CI", "YES", "RAILBED_CONTAINERLAB", "DOCKER_HOST"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return subprocess.run(
        [ROOT / "scripts" / script, *arguments],
        env={**kept, "DOCKER_HOST": NO_ENGINE, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def pretended_containerlab(folder: Path, version: str) -> str:
    file = folder / "containerlab"
    file.write_text(f"#!/bin/sh\necho '    version: {version}'\necho '     commit: 0123abcd'\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("build_containerlab", ["--force"]),
        ("build_containerlab", ["--find", "it"]),
        ("build_images", ["sonic"]),
        ("build_images", ["--missing", "--force"]),
        ("setup_containerlab", ["--for"]),
        ("setup_containerlab", ["--for", ""]),
        ("setup_containerlab", ["netns"]),
    ],
)
def test_wrong_arguments_print_the_usage_and_change_nothing(script: str, arguments: list[str]) -> None:
    ended = run(script, *arguments)
    assert (ended.returncode, ended.stderr) == (2, "")
    assert f"scripts/{script}" in ended.stdout


@pytest.mark.parametrize("backend", ["netns", "auto", "fake"])
def test_a_backend_that_can_do_without_docker_asks_for_none(backend: str) -> None:
    ended = run("setup_containerlab", "--for", backend)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_no_engine_is_installed_where_docker_host_names_another() -> None:
    ended = run("setup_containerlab", YES="1")
    assert ended.returncode == 2
    assert f"no Docker engine answers at DOCKER_HOST={NO_ENGINE}" in ended.stderr


def test_missing_lists_the_engine_and_both_images() -> None:
    ended = run("setup_containerlab", "--missing")
    assert ended.returncode == 0
    listed = ended.stdout.splitlines()
    assert [line for line in listed if line != "containerlab"] == [
        "docker engine",
        "image railbed/frr",
        "image railbed/host",
    ]


def test_images_say_what_they_are_built_with() -> None:
    ended = run("build_images", "frr")
    assert ended.returncode == 2
    assert "make setup-containerlab" in ended.stderr


@pytest.mark.parametrize("version", ["0.79.0", "0.80.1", "0.100.0", "1.0.0"])
def test_a_named_containerlab_is_taken_when_new_enough(tmp_path: Path, version: str) -> None:
    named = pretended_containerlab(tmp_path, version)
    ended = run("build_containerlab", "--find", RAILBED_CONTAINERLAB=named)
    assert (ended.returncode, ended.stdout.strip()) == (0, named)


@pytest.mark.parametrize("version", ["0.78.3", "0.9.0", ""])
def test_a_named_containerlab_that_is_too_old_is_refused_by_its_name(tmp_path: Path, version: str) -> None:
    named = pretended_containerlab(tmp_path, version)
    ended = run("build_containerlab", RAILBED_CONTAINERLAB=named)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"RAILBED_CONTAINERLAB names '{named}', which is no containerlab 0.79 or newer" in ended.stderr


def pretended(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_an_engine_of_debians_that_is_stopped_is_no_other_engine(tmp_path: Path) -> None:
    """However much dpkg-query still has to say when what is looked for has been found."""
    listed = "echo /usr/sbin/dockerd && exec seq 100000"
    pretended(tmp_path, "dpkg-query", f"case $1 in --listfiles) {listed} ;; esac")
    pretended(tmp_path, "docker", "exit 1")
    pretended(tmp_path, "dockerd", "exit 1")
    pretended(tmp_path, "sudo", "exit 1")
    ended = run("setup_containerlab", DOCKER_HOST="", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert ended.returncode == 2
    assert "about to start the Docker engine" in ended.stderr
    assert "nothing was changed" in ended.stderr


def test_no_pipe_of_ours_ends_before_it_is_written() -> None:
    """With pipefail the writer's SIGPIPE is a failure, whenever it writes twice and is the slower one."""
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and "pipefail" in path.read_text()]
    assert scripts
    ends_early = re.compile(r"(?<!\|)\|\s*(head|grep\s+(-\w*[qm]|--quiet|--max-count)|sed\s[^|]*\bq\b)")
    found = [
        f"{path.name}: {line}" for path in scripts for line in path.read_text().splitlines() if ends_early.search(line)
    ]
    assert found == []
