from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from topologies.errors import SpecError
from traffic.graph import Buffer, checked
from traffic.playing import orders, play
from traffic.races import races
from traffic.workloads import msccl_graph, msccl_xml

FILES = Path(__file__).parent / "files"
Words = npt.NDArray[np.uint32]


def random_words(rng: random.Random, count: int) -> Words:
    return np.array([rng.getrandbits(32) for _ in range(count)], dtype=np.uint32)


@pytest.mark.parametrize("chunk_words", [1, 5])
def test_a_ring_all_reduce_sums(chunk_words: int) -> None:
    size = 3 * chunk_words * 4
    graph = checked(msccl_xml.read(FILES / "ring3.xml", size=size))
    assert graph.in_place
    rng = random.Random(1)
    inputs = [random_words(rng, size // 4) for _ in range(3)]
    total = inputs[0] + inputs[1] + inputs[2]
    for outputs in orders(graph, [given.view(np.uint8) for given in inputs], range(20)):
        for output in outputs:
            assert (output.view(np.uint32) == total).all()
    assert races(graph) == ()


def test_a_ring_sends_what_a_ring_sends() -> None:
    """2(n-1)/n of the size from each rank to the next, and nothing else."""
    graph = msccl_xml.read(FILES / "ring3.xml", size=1200)
    expected = np.zeros((3, 3), dtype=np.int64)
    for rank in range(3):
        expected[rank, (rank + 1) % 3] = 2 * 2 * 1200 // 3
    assert (graph.matrix == expected).all()


def test_what_is_received_to_stay_goes_straight_to_its_place() -> None:
    """Only rrs, which keeps nothing, adds in scratch: one send of each rank to itself."""
    graph = msccl_xml.read(FILES / "ring3.xml", size=1200)
    assert [send.src for send in graph if send.is_local] == [0, 1, 2]
    assert graph.scratch_bytes == 400
    landed = [send for send in graph if not send.is_local and send.to_buffer is not Buffer.SCRATCH]
    assert len(landed) == 3 * 3


def test_thread_blocks_wait_and_nops_hand_on() -> None:
    graph = checked(msccl_xml.read(FILES / "broadcast2.xml", size=16))
    given = np.arange(16, dtype=np.uint8)
    for outputs in orders(graph, [given, np.zeros(16, dtype=np.uint8)], range(10)):
        assert [output.tolist() for output in outputs] == [given.tolist()] * 2
    assert races(graph) == ()
    last = graph.sends[-1]
    assert (last.src, last.dst, last.from_buffer, last.size) == (1, 1, Buffer.SCRATCH, 16)
    assert last.after


def test_a_size_must_divide_into_chunks_of_elements() -> None:
    with pytest.raises(SpecError, match=r"ring3.xml: size is 10 bytes; allowed: a multiple of 12 up to"):
        msccl_xml.read(FILES / "ring3.xml", size=10)


# --- random programs against an interpreter of MSCCL itself ---


@dataclass
class Program:
    """A random MSCCL program that two thread blocks of each GPU of a ring run, and the memory it leaves behind.

    It is written while it runs: whatever is drawn is carried out at once, messages waiting in their connection. Each
    step waits for the one before of its GPU's other block, so that the order of a GPU's steps is fixed.
    """

    seed: int
    gpus: int = 3
    chunks: int = 3
    words: int = 2
    steps: list[list[list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.inputs = [random_words(self.rng, self.chunks * self.words) for _ in range(self.gpus)]
        self.memory = {
            (gpu, side): np.zeros((self.chunks, self.words), dtype=np.uint32)
            for gpu in range(self.gpus)
            for side in "ios"
        }
        for gpu, given in enumerate(self.inputs):
            self.memory[gpu, "i"][:] = given.reshape(self.chunks, self.words)
        self.steps = [[[], []] for _ in range(self.gpus)]
        self.last: list[tuple[int, int] | None] = [None] * self.gpus
        self.flying: dict[tuple[int, int], deque[Words]] = {
            (gpu, block): deque() for gpu in range(self.gpus) for block in (0, 1)
        }
        for _ in range(self.rng.randrange(5, 40)):
            gpu, block = self.rng.randrange(self.gpus), self.rng.randrange(2)
            waiting = self.flying[gpu, block]
            self.step(
                gpu,
                block,
                self.rng.choice(("r", "rcs", "rrs", "rrc", "rrcs", "s", "cpy", "re", "nop")[0 if waiting else 5 :]),
            )
        for (gpu, block), waiting in self.flying.items():
            while waiting:
                self.step(gpu, block, self.rng.choice(("r", "rrc")))

    def step(self, gpu: int, block: int, kind: str) -> None:
        draw = self.rng.randrange
        count = 1 if kind == "nop" else draw(1, 3)
        if kind.startswith("r") and kind != "re":
            count = len(self.flying[gpu, block][0])
        source, target = "ios"[draw(3)], "ios"[draw(3)]
        src, dst = draw(self.chunks - count + 1), draw(self.chunks - count + 1)
        if kind in {"rrc", "rrcs", "re"} and self.rng.random() < 0.5:
            source, src = target, dst
        if kind in {"cpy", "re"} and source == target and abs(src - dst) < count:
            target = "ios"[("ios".index(source) + 1) % 3]  # what overlaps has no meaning
        if kind in {"rrc", "rrcs"} and source == target and 0 < abs(src - dst) < count:
            src = dst
        self.run(
            gpu, block, kind, self.memory[gpu, source][src : src + count], self.memory[gpu, target][dst : dst + count]
        )
        last = self.last[gpu]
        waits = last if last is not None and last[0] != block else (-1, -1)
        self.steps[gpu][block].append(
            f'<step s="{len(self.steps[gpu][block])}" type="{kind}" srcbuf="{source}" srcoff="{src}" dstbuf="{target}"'
            f' dstoff="{dst}" cnt="{count}" depid="{waits[0]}" deps="{waits[1]}" hasdep="1"/>'
        )
        self.last[gpu] = (block, len(self.steps[gpu][block]) - 1)

    def run(self, gpu: int, block: int, kind: str, source: Words, target: Words) -> None:
        sent = source.copy()
        if kind.startswith("r") and kind != "re":
            sent = self.flying[gpu, block].popleft()
            if kind in {"rrs", "rrc", "rrcs"}:
                sent = sent + source
            if kind != "rrs":
                target[:] = sent
        elif kind in {"cpy", "re"}:
            target[:] = source + target if kind == "re" else source
        if kind in {"s", "rcs", "rrs", "rrcs"}:
            self.flying[(gpu + 1) % self.gpus, block].append(sent.copy())

    @property
    def xml(self) -> str:
        loop = f'nchannels="2" nchunksperloop="{self.chunks}" ngpus="{self.gpus}"'
        lines = [f'<algo name="p" proto="Simple" {loop} coll="custom" inplace="0">']
        for gpu, blocks in enumerate(self.steps):
            lines.append(f'<gpu id="{gpu}" i_chunks="{self.chunks}" o_chunks="{self.chunks}" s_chunks="{self.chunks}">')
            for number, steps in enumerate(blocks):
                peers = f'send="{(gpu + 1) % self.gpus}" recv="{(gpu - 1) % self.gpus}"'
                lines += [f'<tb id="{number}" {peers} chan="{number}">', *steps, "</tb>"]
            lines.append("</gpu>")
        return "\n".join([*lines, "</algo>"])


def same_as_msccl(program: Program, seeds: range) -> bool:
    size = program.chunks * program.words * 4
    graph = checked(msccl_graph.graph_of(msccl_xml.parse(program.xml.encode(), "program"), size))
    given = [words.view(np.uint8) for words in program.inputs]
    expected = [program.memory[gpu, "o"].reshape(-1) for gpu in range(program.gpus)]
    played = [play(graph, given), *(play(graph, given, seed=seed) for seed in seeds)]
    return races(graph) == () and all(
        (output.view(np.uint32) == wanted).all()
        for outputs in played
        for output, wanted in zip(outputs, expected, strict=True)
    )


@pytest.mark.parametrize("seed", range(24))
def test_a_random_program_leaves_what_msccl_leaves(seed: int) -> None:
    assert same_as_msccl(Program(seed), range(3))


def test_landing_too_early_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: were every message written where it belongs as soon as it comes, programs would break."""
    monkeypatch.setattr(msccl_graph._Lowering, "_over_by", lambda *_: True)
    assert not all(same_as_msccl(Program(seed), range(3)) for seed in range(24))


def test_a_search_cut_short_costs_scratch_and_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(7)
    monkeypatch.setattr(msccl_graph, "_MOST_LOOKS", 0)
    assert same_as_msccl(program, range(3))


# --- what is refused ---

ALGO = '<algo name="x" proto="Simple" nchannels="1" nchunksperloop="1" ngpus="2" coll="allreduce" inplace="0">'
GPU = '<gpu id="{0}" i_chunks="1" o_chunks="1" s_chunks="1"><tb id="0" send="{1}" recv="{1}" chan="0">'
SEND = '<step s="0" type="s" srcbuf="i" srcoff="0" dstbuf="o" dstoff="0" cnt="1" depid="-1" deps="-1" hasdep="0"/>'
RECV = SEND.replace('type="s"', 'type="r"')


def algorithm(first: str = SEND, second: str = RECV, algo: str = ALGO, gpu: str = GPU) -> bytes:
    parts = [algo, gpu.format(0, 1), first, "</tb></gpu>", gpu.format(1, 0), second, "</tb></gpu>", "</algo>"]
    return "\n".join(parts).encode()


def test_the_smallest_algorithm_is_taken() -> None:
    assert len(msccl_graph.graph_of(msccl_xml.parse(algorithm(), "x.xml"), 4).sends) == 1


BOMB = b'<!DOCTYPE algo [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>' + ALGO.encode() + b"</algo>"
OUTSIDE = b'<!DOCTYPE algo SYSTEM "file:///etc/passwd"><algo/>'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB, r"x.xml:1: column [0-9]+: found a DOCTYPE; allowed: none"),
        (OUTSIDE, r"x.xml:1: column [0-9]+: found a DOCTYPE"),
        (b"<algo name='x'", r"x.xml:1: column 1: found no well-formed XML \(unclosed token\)"),
        (b"<algo>\n</gpu></algo>", r"x.xml:2: column 3: found no well-formed XML \(mismatched tag\)"),
        (b"<?xml version='1.0' encoding='cp037'?><algo/>", r"<algo>: found no ngpus"),
        (b"<algo>&b;</algo>", r"undefined entity"),
        (b"<plan/>", r"x.xml:1: column 1: found <plan> in the file; allowed: <algo>"),
        (b"<algo><algo/></algo>", r"found <algo> in <algo>; allowed: <gpu>"),
        (b"<algo>text</algo>", r"found text 'text'; allowed: elements only"),
        (algorithm(algo=ALGO.replace('ngpus="2"', 'ngpus="3"')), r"<algo>: found no gpu 2; allowed: gpu 0 to 2"),
        (algorithm(algo=ALGO.replace("allreduce", "allsum")), r"coll is 'allsum'; allowed: coll one of allreduce"),
        (algorithm(gpu=GPU.replace('id="{0}" i', 'id="0" i')), r":5: column 1: <gpu>: found gpu 0 a second time"),
        (algorithm(gpu=GPU.replace('i_chunks="1"', 'i_chunks="2"')), r"i_chunks is 2; allowed: 0 or 1"),
        (algorithm(gpu=GPU.replace('send="{1}"', 'send="{0}"')), r"send is 0, the GPU itself"),
        (algorithm(gpu=GPU.replace('chan="0"', 'chan="1"')), r"chan is '1'; allowed: chan a whole number from 0 to 0"),
        (algorithm(gpu=GPU.replace('send="{1}"', 'send="-1"')), r"found type s in a thread block with send=-1"),
        (
            algorithm(SEND.replace('type="s"', 'type="ra"')),
            r":3: column 1: <step>: type is 'ra'; allowed: type one of s",
        ),
        (algorithm(SEND.replace('s="0"', 's="1"', 1)), r"<step>: s is 1; allowed: 0"),
        (algorithm(SEND.replace('srcbuf="i"', 'srcbuf="x"')), r"srcbuf is 'x'; allowed: srcbuf one of i, o, s"),
        (algorithm(SEND.replace('srcoff="0"', 'srcoff="1"')), r"reach chunk 1 of srcbuf i; allowed: chunks below 1"),
        (algorithm(SEND.replace('cnt="1"', 'cnt="0"')), r"cnt is '0'; allowed: cnt a whole number from 1 to 71"),
        (algorithm(SEND.replace('cnt="1" ', "")), r"found no cnt"),
        (algorithm(SEND.replace('depid="-1"', 'depid="0"')), r"depid is 0 and deps -1; allowed: both -1, or neither"),
        (algorithm(SEND.replace('"-1"', '"0"')), r"depid is 0, its own thread block"),
        (algorithm(SEND.replace('depid="-1" deps="-1"', 'depid="1" deps="0"')), r"found no step 0 of tb 1"),
        (algorithm(SEND.replace('cnt="1"', f'cnt="{"9" * 5000}"')), r"cnt is '9999.*\.\.\.'; allowed"),
        (
            algorithm(SEND + SEND.replace('s="0"', 's="1"', 1)),
            r"x.xml:3: gpu 0 tb 0 step 1: found 2 sends and 1 receives",
        ),
        (algorithm(first=SEND, second=""), r"gpu 0 tb 0 step 0: found 1 sends and 0 receives on channel 0"),
        (
            algorithm(
                RECV + SEND.replace('s="0"', 's="1"', 1),
                RECV + SEND.replace('s="0"', 's="1"', 1),
            ),
            r"x.xml:[36]: gpu [01] tb 0 step [01]: waits for itself through other steps: the algorithm would hang",
        ),
    ],
)
def test_what_msccl_could_not_run_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        msccl_graph.graph_of(msccl_xml.parse(content, "x.xml"), 4)


def test_the_counts_of_both_ends_must_agree() -> None:
    algo = ALGO.replace('nchunksperloop="1"', 'nchunksperloop="2"')
    gpu = GPU.replace('i_chunks="1" o_chunks="1"', 'i_chunks="2" o_chunks="2"')
    content = algorithm(SEND, RECV.replace('cnt="1"', 'cnt="2"'), algo, gpu)
    with pytest.raises(SpecError, match="receives 2 chunks of 1 that come on channel 0 from gpu 0 to gpu 1"):
        msccl_graph.graph_of(msccl_xml.parse(content, "x.xml"), 8)


def test_a_wait_that_nobody_ends_is_refused() -> None:
    content = (FILES / "broadcast2.xml").read_text().replace('hasdep="1"', 'hasdep="0"')
    with pytest.raises(SpecError, match=r":15: column 7: <step>: waits for tb 0 step 0, which says hasdep=0"):
        msccl_xml.parse(content.encode(), "x.xml")


def test_in_place_an_all_gathers_input_is_its_part_of_the_output() -> None:
    algo = ALGO.replace("allreduce", "allgather").replace('inplace="0"', 'inplace="1"').replace('loop="1"', 'loop="2"')
    gpu = GPU.replace('o_chunks="1"', 'o_chunks="2"')
    steps = [SEND + RECV.replace('s="0"', 's="1"', 1).replace('dstoff="0"', f'dstoff="{peer}"') for peer in (1, 0)]
    steps[1] = steps[1].replace('dstbuf="o" dstoff="1"', 'dstbuf="o" dstoff="0"')
    graph = checked(msccl_graph.graph_of(msccl_xml.parse(algorithm(steps[0], steps[1], algo, gpu), "x.xml"), 16))
    held = [np.zeros(16, dtype=np.uint8), np.zeros(16, dtype=np.uint8)]
    held[0][:8], held[1][8:] = 5, 7
    assert [output.tolist() for output in play(graph, held)] == [[5] * 8 + [7] * 8] * 2


def test_steps_of_a_block_are_listed_in_order() -> None:
    graph = msccl_xml.read(FILES / "ring3.xml", size=12)
    for rank in range(3):
        steps = [send.step for send in graph if send.src == rank]
        assert all(earlier <= later for earlier, later in pairwise(steps))
