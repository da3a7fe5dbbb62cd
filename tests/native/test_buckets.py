"""asicd's buckets against the model's: the same changes of members, step by step, must leave the same table."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import labs.dataplane
from topologies.resilient import fresh_buckets, rebucket, refill

HEADERS = Path(str(labs.dataplane.__file__)).parent
SOURCE = Path(__file__).parent / "asicd" / "test_buckets.c"
STEPS = 3000


def build(headers: Path, program: Path) -> Path:
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-O1", f"-I{headers}", str(SOURCE), "-o", str(program)]
    subprocess.run(command, check=True, timeout=120)
    return program


def words(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def sequence(seed: int) -> tuple[list[str], list[str]]:
    """What the C program is asked, and what the model answers: members come and go, buckets are hit and refilled."""
    chance = random.Random(seed)
    asked, expected = [], []
    ports = [chance.randrange(8) for _ in range(chance.randint(1, 64))]
    table = fresh_buckets(len(ports))
    asked.append(f"fresh {len(ports)}")
    expected.append(f"{words(table)} /")
    for _ in range(STEPS):
        if chance.random() < 0.5:
            members = [chance.randrange(chance.choice((2, 8, 64))) for _ in range(chance.choice((1, 2, 3, 4, 7, 64)))]
            if chance.random() < 0.5:
                members = [port for port in ports if chance.random() < 0.8] or ports
            asked.append(f"change {len(ports)} {words(ports)} {len(members)} {words(members)} {words(table)}")
            table, moved = rebucket(ports, table, members)
            ports = members
        else:
            seen = [chance.randrange(100) for _ in table]
            before = chance.choice((-1, 0, 30, 99))
            asked.append(f"refill {len(ports)} {before + 1} {words([at + 1 for at in seen])} {words(table)}")
            idle = {bucket for bucket, at in enumerate(seen) if at <= before}
            table, moved = refill(table, len(ports), idle.__contains__)
        expected.append(f"{words(table)} / {words(moved)}".rstrip())
    return asked, expected


def answers(program: Path, asked: Sequence[str]) -> list[str]:
    done = subprocess.run(
        [program, "-"], input="\n".join(asked), capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(HEADERS, tmp_path_factory.mktemp("buckets") / "buckets")


@pytest.mark.parametrize("seed", range(5))
def test_as_the_model_has_it(program: Path, seed: int) -> None:
    asked, expected = sequence(seed)
    assert answers(program, asked) == expected


def test_another_order_is_found(tmp_path: Path) -> None:
    """Negative control: the last of the members with the fewest buckets, not the first."""
    for name in ("bpf/asic.h", "asicd/buckets.h"):
        text = (HEADERS / name).read_text().replace("has[i] < has[least]", "has[i] <= has[least]")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    asked, expected = sequence(0)
    assert answers(build(tmp_path, tmp_path / "buckets"), asked) != expected
