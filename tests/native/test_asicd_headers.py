"""The soft ASIC's pure headers, compiled for this machine: each C test with the sanitizers on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import labs.dataplane

HEADERS = Path(str(labs.dataplane.__file__)).parent
TESTS = sorted((Path(__file__).parent / "asicd").glob("test_*.c"))
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def build(source: Path, program: Path) -> None:
    command = ["gcc", *FLAGS, *SANITIZED, f"-I{HEADERS}", str(source), "-o", str(program)]
    subprocess.run(command, check=True, timeout=120)


def run(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("source", TESTS, ids=lambda source: source.stem)
def test_header(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path / source.stem)
    ended = run(tmp_path / source.stem)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_every_c_test_is_found() -> None:
    assert [path.stem for path in TESTS] == [
        "test_buckets",
        "test_command",
        "test_frame",
        "test_groups",
        "test_reaction",
        "test_watchdog",
        "test_wred",
    ]


@pytest.mark.parametrize(
    ("test", "header", "was", "made"),
    [
        ("test_buckets", "asicd/buckets.h", "has[i] < has[least]", "has[i] <= has[least]"),
        ("test_buckets", "asicd/buckets.h", "!before--", "1"),
        ("test_buckets", "asicd/buckets.h", "has[bucket[b]] <= most", "0"),
        ("test_buckets", "asicd/buckets.h", "seen[b] > before", "seen[b] >= before"),
        ("test_buckets", "asicd/buckets.h", "now > idle_ns ? now - idle_ns : 0", "now - idle_ns"),
        ("test_groups", "asicd/groups.h", "total += object || !way[i].dead ?", "total += 1 ?"),
        ("test_groups", "asicd/groups.h", "if ((way[i].dead && !object) || !total)", "if (!total)"),
        ("test_groups", "asicd/groups.h", "+ total / 2", ""),
        ("test_groups", "asicd/groups.h", "unsigned __int128 total", "uint64_t total"),
        ("test_groups", "asicd/groups.h", "end ? end - 1 : 0", "end - 1"),
        ("test_frame", "asicd/frame.h", "0x0101", "0x0001"),
        ("test_watchdog", "asicd/watchdog.h", "dog->left_ms > poll_ms", "dog->left_ms > 0"),
        ("test_watchdog", "asicd/watchdog.h", "is->sent_packets != was->sent_packets", "0"),
        ("test_reaction", "asicd/reaction.h", "at < count ? at : count - 1", "at % (count + 1)"),
        ("test_command", "asicd/command.h", "command->count == WORDS_MAX", "0"),
        ("test_command", "asicd/command.h", "strlen(text) != 2 * size", "0"),
        ("test_wred", "bpf/wred.h", "depth > (__s64)wred->max_bytes", "depth >= (__s64)wred->max_bytes"),
    ],
)
def test_a_header_that_is_wrong_fails(tmp_path: Path, test: str, header: str, was: str, made: str) -> None:
    """Negative control: each test, with one line of its header spoilt."""
    for folder in ("asicd", "bpf"):
        (tmp_path / folder).mkdir()
    for name in ("bpf/asic.h", header):
        (tmp_path / name).write_text((HEADERS / name).read_text())
    text = (tmp_path / header).read_text()
    assert was in text
    (tmp_path / header).write_text(text.replace(was, made))
    source = Path(__file__).parent / "asicd" / f"{test}.c"
    program = tmp_path / test
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-O1", *SANITIZED, f"-I{tmp_path}", str(source), "-o", str(program)]
    subprocess.run(command, check=True, timeout=120)
    assert run(program).returncode != 0
