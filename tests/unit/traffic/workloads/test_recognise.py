from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from topologies.errors import SpecError
from traffic.graph import Graph, Send, checked
from traffic.workloads import ns3_flows, source
from traffic.workloads.recognise import Format, format_of, parse_workload, read_workload
from traffic.workloads.workload import Compute, Workload

FILES = Path(__file__).parent / "files"
FORMATS = {
    "three.matrix": Format.ALLTOALLV,
    "two.flow": Format.NS3,
    "ring3.xml": Format.MSCCL,
    "broadcast2.xml": Format.MSCCL,
    "transformer.simai": Format.SIMAI,
    "data.simai": Format.SIMAI,
    "pair.0.et": Format.CHAKRA,
    "pair.1.et": Format.CHAKRA,
    "step.3.et.gz": Format.CHAKRA,
}


def test_every_file_has_its_format_here() -> None:
    assert {path.name for path in FILES.iterdir()} == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_known_by_what_it_holds(name: str, tmp_path: Path) -> None:
    renamed = tmp_path / "workload"
    renamed.write_bytes((FILES / name).read_bytes())
    kind = format_of(renamed.read_bytes(), "workload")
    assert kind is FORMATS[name]
    workload = read_workload(renamed, size=48 if kind is Format.MSCCL else None)
    graph = kind in {Format.ALLTOALLV, Format.NS3, Format.MSCCL}
    assert isinstance(workload, Graph if graph else Workload)


def test_only_an_algorithm_takes_a_size() -> None:
    with pytest.raises(SpecError, match=r"ring3.xml: an MSCCL algorithm is of no size; allowed: a size in bytes"):
        read_workload(FILES / "ring3.xml")
    with pytest.raises(SpecError, match=r"two.flow: size is 8, and the file \(ns-3 flows\) says its own"):
        read_workload(FILES / "two.flow", size=8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"w: found no workload: it begins with no line; allowed: nccl-tests alltoallv matrix: .*; ns-3 flows"),
        (b"\n \n", r"it begins with no line"),
        (b"hello world", r"w:1: found no workload: it begins with 'hello'"),
        (b"\n\n{}", r"w:3: found no workload: it begins with '{}'"),
        (b"\x7fELF\x02\x01\x01\x00", r"w: found no workload: it begins with bytes 7f 45 4c 46 02 01 01 00"),
        (b"\xff\xd8\xff\xe0\0\0", r"it begins with bytes ff d8 ff e0"),
        ("é".encode("latin-1"), r"w:1: found byte 0xe9, which is not UTF-8"),
        (b"x" * 100, r"begins with 'x{40}';"),
    ],
)
def test_what_is_none_is_told_so(content: bytes, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_workload(content, "w")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"")
    os.truncate(tmp_path / "large", source.MOST_BYTES + 1)
    for name, said in (
        ("none", "there is no such file"),
        (".", "found a folder"),
        ("pipe", "no regular file"),
        ("large", "found 33554433 bytes; allowed: at most 33554432"),
        ("nul\0", "cannot be read"),
    ):
        with pytest.raises(SpecError, match=said):
            read_workload(tmp_path / name)


# --- whatever a file holds, it is a workload or a SpecError ---


def judge(content: bytes) -> None:
    """Parse it; what comes out must be whole."""
    for size in (None, 48):
        said = ""
        workload: Graph | Workload | None = None
        try:
            workload = parse_workload(content, "t.0.et", size=size)
        except SpecError as error:
            said = str(error)
        if isinstance(workload, Graph):
            checked(workload)
            assert workload.matrix.min() >= 0
        elif workload is None:
            assert said.startswith("t.0.et")
            assert len(said) < 1000
        for place, phase in enumerate(workload if isinstance(workload, Workload) else ()):
            assert all(0 <= earlier < place for earlier in phase.after)
            assert (phase.seconds if isinstance(phase, Compute) else phase.size) >= 0


def test_the_judge_sees_another_error_and_a_broken_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> Graph:
        raise IndexError

    monkeypatch.setattr(ns3_flows, "parse", breaks)
    with pytest.raises(IndexError):
        judge(b"0\n\n0")
    monkeypatch.setattr(ns3_flows, "parse", lambda *_: Graph("g", 1, (Send(0, 1, 8),)))
    with pytest.raises(SpecError):
        judge(b"0\n\n0")


CONTENTS = {name: (FILES / name).read_bytes() for name in FORMATS}
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", FORMATS)
@QUICK
@given(data=st.data())
def test_a_truncated_file(name: str, data: st.DataObject) -> None:
    content = CONTENTS[name]
    judge(content[: data.draw(st.integers(0, len(content)))])


@pytest.mark.parametrize("name", FORMATS)
@QUICK
@given(data=st.data())
def test_a_file_with_flipped_bits(name: str, data: st.DataObject) -> None:
    content = bytearray(CONTENTS[name])
    for bit in data.draw(st.lists(st.integers(0, len(content) * 8 - 1), min_size=1, max_size=4)):
        content[bit // 8] ^= 1 << bit % 8
    judge(bytes(content))


@pytest.mark.parametrize("name", FORMATS)
@QUICK
@given(data=st.data())
def test_a_file_with_words_swapped(name: str, data: st.DataObject) -> None:
    """Whole numbers where others stood: deeper than bits reach."""
    content = CONTENTS[name]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 12)))
    middle = data.draw(
        st.sampled_from([b"-1", b"0", b"1e9", b"99999999999999999999", b"\xff" * 10, b"\0", b"\n", b"r"])
    )
    judge(content[:start] + middle + content[end:])


@QUICK
@given(st.binary(max_size=200))
def test_random_bytes(content: bytes) -> None:
    judge(content)


# --- hostile files: little in, little out ---

ALGO = (
    b'<algo name="x" proto="Simple" nchannels="1" nchunksperloop="1" ngpus="1024" coll="custom" inplace="0">'
    b'<gpu id="0" i_chunks="0" o_chunks="0" s_chunks="1048576">'
)


HOSTILE = {
    "elements in each other": b"<algo>" * 20_000,
    "thread blocks": ALGO + b"<tb/>" * 20_000,
    "steps": ALGO + b"<tb>" + b"<step/>" * 20_000,
    "attributes": b"<algo " + b" ".join(b"a%d='1'" % place for place in range(20_000)) + b"/>",
    "layers that are not there": b"DATA\n32768\n" + b"a -1 1 NONE 0 1 NONE 0 1 NONE 0 \n" * 10,
    "a header": b"DATA " + b"a: 1 " * 20_000,
    "one line": b"1 " * 50_000,
    "one column": b"1\n" * 50_000,
    "blank lines": b"262144\n" + b"\n" * 50_000,
    "empty messages": b"\0" + b"\0" * 50_000,
    "a varint": b"\0" + b"\x80" * 50_000,
    "fields": b"\0" + b"\xe0\xd4\x03" + b"\x18\x00" * 30_000,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_soon_and_in_little_room(content: bytes) -> None:
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(SpecError):
            parse_workload(content, "w", size=None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * len(content) + (1 << 20)
    assert time.process_time() - began < 2
