"""abi.py against the text of asic.h: names, order, widths and numbers."""

from __future__ import annotations

import re
from ctypes import LittleEndianStructure, sizeof
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import labs.dataplane
from labs.dataplane import abi, abi_ecmp
from topologies import ecmp

HEADER = (Path(str(labs.dataplane.__file__)).parent / "bpf" / "asic.h").read_text()
CODE = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
STRUCTS = dict(re.findall(r"struct (\w+) \{\n(.*?)\n\};", CODE, re.DOTALL))
ENUMS = dict(re.findall(r"enum (\w+) \{\n(.*?)\n\};", CODE, re.DOTALL))
WIDTHS = {"__u8": 1, "__u16": 2, "__u32": 4, "__s32": 4, "__u64": 8, "__s64": 8, "struct bpf_spin_lock": 4}


def number(text: str) -> int:
    value, _, shift = text.partition(" << ")
    return int(value.rstrip("U"), 0) << int(shift or 0)


def named(name: str) -> int:
    """A number of asic.h, by its name there."""
    return int(next(getattr(module, name) for module in (abi, abi_ecmp, ecmp) if hasattr(module, name)))


def test_nothing_is_left_out() -> None:
    assert set(abi.STRUCTS) == set(STRUCTS)
    assert set(abi.ENUMS) == set(ENUMS)


@pytest.mark.parametrize(("name", "value"), re.findall(r"^#define (\w+)[ \t]+(0x\w+|\d+)[ \t]*$", CODE, re.MULTILINE))
def test_numbers(name: str, value: str) -> None:
    assert named(name) == number(value)


@pytest.mark.parametrize("name", abi.ENUMS)
def test_enums(name: str) -> None:
    prefix, ours = abi.ENUMS[name]
    theirs = {
        key.removeprefix(prefix): number(value) for key, value in re.findall(r"(\w+) = (\w+(?: << \w+)?)", ENUMS[name])
    }
    assert {member.name: member.value for member in ours} == theirs


@pytest.mark.parametrize("name", abi.STRUCTS)
def test_structures(name: str) -> None:
    ours: type[LittleEndianStructure] = abi.STRUCTS[name]
    theirs = re.findall(r"^\t(struct \w+|\w+) (\w+)(?:\[(\w+)\])?;", STRUCTS[name], re.MULTILINE)
    assert len(theirs) == STRUCTS[name].count(";")
    sizes = {}
    for kind, field, count in theirs:
        inner = abi.STRUCTS.get(kind.removeprefix("struct "))
        width = sizeof(inner) if inner else WIDTHS[kind]
        sizes[field] = width * (int(count) if count.isdigit() else named(count) if count else 1)
    assert {field: getattr(ours, field).size for field in sizes} == sizes
    assert [field for field, *_ in ours._fields_] == list(sizes)
    assert sizeof(ours) == sum(sizes.values()), "padding that has no name"


@given(st.integers(0, 2**23 - 1), st.integers(0, 2**39 - 1))
def test_packed(packets: int, bytes_: int) -> None:
    assert (abi.packed_packets((packets << 40) + bytes_), abi.packed_bytes((packets << 40) + bytes_)) == (
        packets,
        bytes_,
    )


def test_packed_below_zero() -> None:
    # 3 packets are in, and more bytes than came have been taken out for a moment.
    assert (abi.packed_packets((3 << 40) - 100), abi.packed_bytes((3 << 40) - 100)) == (3, -100)
