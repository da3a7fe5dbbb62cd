"""The RoCEv2 frames rnic makes, judged by two implementations that are not ours: scapy's ICRC, tshark's dissector."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.contrib.roce import AETH, BTH
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import wrpcap

from labs.errors import CapabilityMissing

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "traffic" / "rnic" / "tests" / "test_roce.c"
NAMES = {
    0x06: "RDMA_WRITE_FIRST",
    0x07: "RDMA_WRITE_MIDDLE",
    0x08: "RDMA_WRITE_LAST",
    0x09: "RDMA_WRITE_LAST_WITH_IMMEDIATE",
    0x0A: "RDMA_WRITE_ONLY",
    0x0B: "RDMA_WRITE_ONLY_WITH_IMMEDIATE",
    0x11: "ACKNOWLEDGE",
    0x81: "CNP",
}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    """A frame of every opcode at every size, over IPv4 and IPv6."""
    program = tmp_path_factory.mktemp("roce") / "test_roce"
    subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-O1", SOURCE, "-o", program], check=True, timeout=120)
    said = subprocess.run([program, "print"], capture_output=True, text=True, timeout=60, check=True).stdout
    return tuple(bytes.fromhex(line) for line in said.split())


def icrc_by_scapy(frame: bytes) -> bytes:
    """The ICRC scapy computes for a frame of ours whose own it never looks at."""
    packet: Packet = Ether(frame)
    bth = packet[BTH]
    before_icrc = bytes(packet[BTH])[:-4]
    computed: bytes = bth.compute_icrc(before_icrc)
    return computed


def test_every_opcode_is_there(frames: tuple[bytes, ...]) -> None:
    assert {Ether(frame)[BTH].opcode for frame in frames} == set(NAMES)
    assert sum(IPv6 in Ether(frame) for frame in frames) * 2 == len(frames) == 80


def test_scapy_computes_the_same_icrc(frames: tuple[bytes, ...]) -> None:
    for frame in frames:
        assert icrc_by_scapy(frame) == frame[-4:], frame.hex()


def test_scapy_computes_another_icrc_for_another_byte(frames: tuple[bytes, ...]) -> None:
    """Negative control: the comparison sees a payload, a sequence number and an IP identification that changed."""
    frame = next(frame for frame in frames if frame[42] == 0x0A and len(frame) > 200)
    for place in (19, 53, 150):
        spoilt = bytearray(frame)
        spoilt[place] ^= 1
        assert icrc_by_scapy(bytes(spoilt)) != frame[-4:]


def test_scapy_reads_an_acknowledgement(frames: tuple[bytes, ...]) -> None:
    packet = next(Ether(frame) for frame in frames if AETH in Ether(frame))
    assert (packet[AETH].syndrome, packet[AETH].msn) == (0x60, 0x010203)
    assert (packet[BTH].dqpn, packet[BTH].psn, packet[BTH].pkey) == (0xABCDEF, 0x123456, 0xFFFF)


def dissected(path: Path) -> Iterator[tuple[str, ...]]:
    """What tshark makes of each frame: opcode, expert messages, malformed, what it took for the ICRC."""
    tshark = shutil.which("tshark")
    if tshark is None:
        raise CapabilityMissing("tshark", "it is not on PATH", remedy="apt-get install tshark")
    fields = ("infiniband.bth.opcode", "_ws.expert.message", "_ws.malformed", "infiniband.invariant.crc")
    argv = [tshark, "-n", "-r", str(path), "-T", "fields", "-E", "separator=|"]
    argv += [word for field in fields for word in ("-e", field)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    for line in said.splitlines():
        yield tuple(line.split("|"))


def test_tshark_finds_nothing_malformed(frames: tuple[bytes, ...], tmp_path: Path) -> None:
    path = tmp_path / "frames.pcap"
    wrpcap(str(path), [Ether(frame) for frame in frames])
    found = list(dissected(path))
    assert len(found) == len(frames)
    for frame, (opcode, expert, malformed, icrc) in zip(frames, found, strict=True):
        v6 = frame[12:14] == b"\x86\xdd"
        # RoCEv2 sends no UDP checksum (annex A17); over IPv6 only tunnels and it may (RFC 6936), and tshark says so.
        remark = "Illegal checksum value (0)" if v6 else ""
        assert (int(opcode), expert, malformed) == (frame[62 if v6 else 42], remark, ""), frame.hex()
        # tshark 4.0 takes the last 16 bytes of a CNP as they are and looks for no ICRC there.
        assert icrc == ("" if NAMES[int(opcode)] == "CNP" else f"0x{frame[-4:].hex()}")


def test_tshark_finds_what_is_cut_short(frames: tuple[bytes, ...], tmp_path: Path) -> None:
    """Negative control: a WRITE ONLY whose RETH is cut, lengths adjusted, is malformed to tshark."""
    packet = Ether(next(frame for frame in frames if frame[42] == 0x0A and frame[12:14] == b"\x08\x00"))
    short = bytearray(bytes(packet)[: 42 + 12 + 3])
    short[16:18] = (len(short) - 14).to_bytes(2, "big")
    short[38:40] = (len(short) - 34).to_bytes(2, "big")
    path = tmp_path / "short.pcap"
    wrpcap(str(path), [Ether(bytes(short))])
    ((_, expert, malformed, _),) = dissected(path)
    assert expert
    assert malformed


# --- the queue pair's headers


@pytest.mark.parametrize(
    ("test", "header", "was", "made"),
    [
        ("test_roce", "roce.h", "at[1] = at[8] = at[10] = at[11] = 0xff;", "at[1] = at[8] = 0xff;"),
        ("test_roce", "roce.h", "if (length > *bytes)", "if (length > *bytes + 1)"),
        ("test_roce", "crc32.h", "0x01c6e41596", "0x01c6e41597"),
        ("test_queue_pair", "requester.h", "r->next = place;\n\tr->timed_ns", "r->timed_ns"),
        ("test_queue_pair", "requester.h", "r->tries++ == r->set.retries", "r->tries++ == r->set.retries + 1"),
        ("test_queue_pair", "requester.h", "r->next - r->acknowledged < r->set.window", "true"),
        ("test_queue_pair", "responder.h", "if (!r->nak_sent || place <= r->gap)", "if (!r->nak_sent)"),
        ("test_queue_pair", "responder.h", "\t\tr->expected = r->began;\n", ""),
        ("test_dcqcn", "dcqcn.h", "(1 - r->alpha / 2)", "(1 - r->alpha)"),
        ("test_dcqcn", "dcqcn.h", "now >= r->cut_ns", "true"),
        ("test_graph", "graph.h", "a += b;", "a = b;"),
        ("test_graph", "graph.h", "if (t->reduce || number / g->numbers", "if (number / g->numbers"),
    ],
)
def test_a_header_that_is_wrong_fails(tmp_path: Path, test: str, header: str, was: str, made: str) -> None:
    """Negative control: each C test, with one line of its header spoilt."""
    folder = shutil.copytree(SOURCE.parents[1], tmp_path / "rnic")
    text = (folder / header).read_text()
    assert was in text
    (folder / header).write_text(text.replace(was, made))
    flags = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    subprocess.run(["gcc", *flags, folder / "tests" / f"{test}.c", "-o", tmp_path / test], check=True, timeout=120)
    assert subprocess.run([tmp_path / test], capture_output=True, timeout=60, check=False).returncode != 0


def fuzzed(root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [root / "scripts" / "fuzz_rnic", "--seed", "1", *arguments],
        env={**os.environ, "RAILBED_FUZZ": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("how", [(), ("--without-libfuzzer",)], ids=["libfuzzer", "by-itself"])
def test_bytes_made_up_stay_inside(tmp_path: Path, how: tuple[str, ...]) -> None:
    """Ten seconds of each; by hand it runs for as long as one likes (docs/testing.md)."""
    ended = fuzzed(ROOT, tmp_path, "--seconds", "10", *how)
    assert ended.returncode == 0, ended.stderr
    assert "seed 1, 10 s" in ended.stderr
    assert not list(tmp_path.glob("found-*"))


@pytest.mark.parametrize(
    ("header", "was", "made"),
    [
        ("roce.h", "if (length > *bytes)", "if (length > *bytes + 1)"),
        ("graph.h", "offset > t->bytes - bytes)", "offset > t->bytes)"),
    ],
)
def test_the_fuzzer_finds_a_read_and_a_write_beyond(tmp_path: Path, header: str, was: str, made: str) -> None:
    """Negative control: a length, and a payload's place, that are believed too far."""
    shutil.copytree(SOURCE.parents[1], tmp_path / "traffic" / "rnic")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "fuzz_rnic", tmp_path / "scripts")
    spoilt = tmp_path / "traffic" / "rnic" / header
    text = spoilt.read_text()
    assert text.count(was) == 1
    spoilt.write_text(text.replace(was, made))
    ended = fuzzed(tmp_path, tmp_path / "out", "--seconds", "10", "--without-libfuzzer")
    assert ended.returncode == 1
    assert "AddressSanitizer" in ended.stderr
    assert "again: " in ended.stderr
