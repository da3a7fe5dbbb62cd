"""The algorithms against published check values, and against other people's code on any bytes, fed in any steps."""

from __future__ import annotations

import random
from binascii import crc_hqx
from collections.abc import Mapping
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING
from zlib import crc32

import pytest

from topologies.ecmp import HashAlgorithm
from topologies.switch_hash import raw_hash

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

CHECK = b"123456789"
# The catalogue of parametrised CRC algorithms: CRC-32/ISO-HDLC and CRC-16/IBM-3740. XOR by hand: 1234 ^ 5678 ^ 9000.
CRC32, CCITT = 0xCBF43926, 0x29B1
XOR = 0x31323334 ^ 0x35363738 ^ 0x39000000
STEPS = (1, 2, 3, 4)


@pytest.fixture(scope="session")
def digesting(loaded: Bench) -> int:
    return loaded.load("crc")


def digests(bench: Bench, program: int, data: bytes, step: int) -> tuple[int, ...]:
    """CRC-32, CRC-CCITT and XOR of bytes that are fed so many at a time."""
    return bench.run(program, bytes(14) + data, step, 0, 0, 0, 0).cb[1:4]


def folded(data: bytes) -> int:
    return reduce(xor, (int.from_bytes(data[i : i + 4].ljust(4, b"\0"), "big") for i in range(0, len(data), 4)), 0)


@pytest.mark.parametrize("step", STEPS)
def test_check_values_of_the_program(bench: Bench, digesting: int, step: int) -> None:
    assert digests(bench, digesting, CHECK, step) == (CRC32, CCITT, XOR)


@pytest.mark.parametrize(
    ("algorithm", "check"),
    {
        HashAlgorithm.CRC: CRC32,
        HashAlgorithm.CRC_32LO: CRC32 & 0xFFFF,
        HashAlgorithm.CRC_32HI: CRC32 >> 16,
        HashAlgorithm.CRC_CCITT: CCITT,
        HashAlgorithm.XOR: XOR,
        HashAlgorithm.CRC_XOR: CRC32 ^ XOR,
    }.items(),
)
def test_check_values_of_the_model(algorithm: HashAlgorithm, check: int) -> None:
    assert raw_hash(CHECK, algorithm) == check


@pytest.mark.parametrize("step", STEPS)
def test_any_bytes(bench: Bench, digesting: int, step: int) -> None:
    """Every entry of every table comes up: each has 256, and these are some 30 000 bytes."""
    rng = random.Random(step)
    for length in range(1, 49):
        for _ in range(25):
            data = rng.randbytes(length)
            assert digests(bench, digesting, data, step) == (crc32(data), crc_hqx(data, 0xFFFF), folded(data))


def test_every_entry_of_the_tables(bench: Bench, digesting: int) -> None:
    """One byte that is not 0, at each place of a word: the entry that it finds decides."""
    for place in range(4):
        for byte in range(256):
            data = bytes(place) + bytes([byte]) + bytes(3 - place)
            assert digests(bench, digesting, data, 4)[:2] == (crc32(data), crc_hqx(data, 0xFFFF))


@pytest.mark.parametrize("wrong", [0x04C11DB6, 0x1EDC6F41, 0x741B8CD7], ids=["a bit", "castagnoli", "koopman"])
def test_another_polynomial_is_seen(bench: Bench, digesting: int, wrong: int) -> None:
    """The check values say no to a table made from anything else."""
    assert slow_crc32(CHECK, 0x04C11DB7) == digests(bench, digesting, CHECK, 4)[0]
    assert slow_crc32(CHECK, wrong) != digests(bench, digesting, CHECK, 4)[0]


def test_a_bit_of_the_bytes_is_seen(bench: Bench, digesting: int) -> None:
    said: Mapping[bytes, tuple[int, ...]] = {
        data: digests(bench, digesting, data, 4)
        for data in (
            bytes([*CHECK[:at], CHECK[at] ^ 1 << bit, *CHECK[at + 1 :]]) for at in range(9) for bit in range(8)
        )
    }
    assert len(said) == 72
    for digest in range(3):
        assert (CRC32, CCITT, XOR)[digest] not in {numbers[digest] for numbers in said.values()}


def slow_crc32(data: bytes, polynomial: int) -> int:
    """Bit by bit, highest first, the bytes and the answer turned round."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= int(f"{byte:08b}"[::-1], 2) << 24
        for _ in range(8):
            register = (register << 1 ^ (polynomial if register >> 31 else 0)) & 0xFFFFFFFF
    return int(f"{register:032b}"[::-1], 2) ^ 0xFFFFFFFF
