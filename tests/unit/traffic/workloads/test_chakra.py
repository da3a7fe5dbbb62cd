from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.errors import SpecError
from traffic.graph import Send, checked
from traffic.workloads import chakra, chakra_graph, protobuf_wire
from traffic.workloads.workload import Collective, CollectiveKind, Compute, Message, Workload

FILES = Path(__file__).parent / "files"

META, LOAD, STORE, COMP, SEND, RECV, COLL = range(1, 8)
INT32, INT64, UINT64, SINT64, BOOL, TEXT = 7, 9, 13, 17, 27, 29


# --- an encoder, by the wire format's description ---


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(place: int, value: int) -> bytes:
    return varint(place << 3) + varint(value)


def block(place: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(place << 3 | 2) + varint(len(content)) + content


def attribute(name: str, kind: int, value: int | str) -> bytes:
    said = block(kind, value) if isinstance(value, str) else number(kind, value)
    return block(10, block(1, name) + said)


def node(
    ident: int,
    kind: int,
    *,
    name: str = "",
    micros: int = 0,
    data: Iterable[int] = (),
    control: Iterable[int] = (),
    **attributes: int | str,
) -> bytes:
    out = number(1, ident) + block(2, name) + number(3, kind)
    out += b"".join(number(4, other) for other in control)  # one by one, and packed: both are proto3
    if data := tuple(data):
        out += block(5, b"".join(varint(other) for other in data))
    out += number(7, micros) if micros else b""
    return out + b"".join(
        attribute(key, TEXT if isinstance(value, str) else INT64, value) for key, value in attributes.items()
    )


def trace(*nodes: bytes, metadata: bytes = block(1, "0.0.4")) -> bytes:
    return b"".join(varint(len(message)) + message for message in (metadata, *nodes))


def pair(rank: int) -> bytes:
    """Two ranks that ping and pong: rank 0 computes and sends, rank 1 receives, computes and answers."""

    def half(
        src: int, ident: int, kind: int, name: str, data: Iterable[int] = (), control: Iterable[int] = ()
    ) -> bytes:
        ends = {"comm_src": src, "comm_dst": 1 - src}
        body = node(ident, kind, name=name, data=data, control=control)
        return body + b"".join(
            attribute(key, INT64, value) for key, value in {"comm_size": 4096, "comm_tag": 7, **ends}.items()
        )

    if rank == 0:
        return trace(
            node(1, COMP, name="forward", micros=100),
            half(0, 2, SEND, "ping", data=[1]),
            half(1, 3, RECV, "pong", control=[2]),
            node(4, COMP, name="backward", micros=50, data=[3]),
        )
    return trace(
        half(1, 20, SEND, "pong", data=[10]),  # stands before what it waits for
        node(10, COMP, name="middle", micros=30, data=[5]),
        half(0, 5, RECV, "ping"),
    )


def step() -> bytes:
    """A rank's training step, with every kind of node."""
    attributes = attribute("is_cpu_op", BOOL, 0) + attribute("involved_dim", 28, "\x08\x01")
    return trace(
        node(0, META, name="process_group:init"),
        node(7, LOAD, name="weights", micros=5, control=[0]),
        node(8, COMP, name="matmul", micros=1500, data=[7]) + attributes,
        node(9, COLL, name="all-reduce", data=[8], comm_type=0, comm_size=1 << 20, pg_name="dp"),
        node(11, COLL, name="barrier", control=[9], comm_type=9),
        node(12, STORE, name="checkpoint", micros=9, data=[9], control=[11, 11]),
        node(13, COLL, data=[12], comm_type=6, comm_size=512),
        metadata=block(1, "1.0") + attribute("schema", TEXT, "1.1.1-chakra.0.0.4")[:0] + block(2, block(1, "host")),
    )


MADE: Mapping[str, bytes] = {
    "pair.0.et": pair(0),
    "pair.1.et": pair(1),
    "step.3.et.gz": gzip.compress(step(), mtime=0),
}


@pytest.mark.parametrize("name", MADE)
def test_the_files_hold_what_the_encoder_makes(name: str) -> None:
    assert chakra.unpacked((FILES / name).read_bytes(), name) == chakra.unpacked(MADE[name], name)


# --- what is read ---


def test_every_kind_of_node_is_a_phase() -> None:
    workload = chakra.read(FILES / "step.3.et.gz")
    assert workload.rank == 3
    assert workload.phases == (
        Compute("process_group:init", 0.0),
        Compute("weights", 5e-6, (0,)),
        Compute("matmul", 1500e-6, (1,)),
        Collective("all-reduce", CollectiveKind.ALL_REDUCE, 1 << 20, "dp", (2,)),
        Collective("barrier", CollectiveKind.BARRIER, 0, "", (3,)),
        Compute("checkpoint", 9e-6, (3, 4)),
        Collective("node 13", CollectiveKind.ALL_TO_ALL, 512, "", (5,)),
    )


def test_nodes_are_put_in_order() -> None:
    assert chakra.read(FILES / "pair.1.et").phases == (
        Message("ping", 4096, receives=True, src=0, dst=1, tag=7),
        Compute("middle", 30e-6, (0,)),
        Message("pong", 4096, receives=False, src=1, dst=0, tag=7, after=(1,)),
    )


@pytest.mark.parametrize(
    ("name", "rank"),
    [("a.0.et", 0), ("a.12.et.gz", 12), ("a.et", None), ("12.txt", None), ("a.1.et.old", None), ("a.99999.et", None)],
)
def test_a_files_name_says_its_rank(name: str, rank: int | None) -> None:
    assert chakra.parse(trace(), f"/x.7.et/{name}").rank == rank


def test_a_peer_the_trace_does_not_name_is_unknown() -> None:
    (message,) = chakra.parse(trace(node(1, SEND, comm_size=8)), "t").phases
    assert message == Message("node 1", 8, receives=False, src=None, dst=None)


def test_a_collectives_call_on_the_cpu_computes() -> None:
    call = node(1, COLL, name="c10d::allreduce_", micros=3) + attribute("is_cpu_op", BOOL, 1)
    kernel = node(2, COLL, data=[1], comm_type=0, comm_size=8) + attribute("is_cpu_op", BOOL, 0)
    first, second = chakra.parse(trace(call, kernel), "t").phases
    assert first == Compute("c10d::allreduce_", 3e-6)
    assert isinstance(second, Collective)


def test_a_recorded_traces_callers_are_not_waited_for() -> None:
    """The caller (7) encloses the call (5) and comes before it only in control; 1 was left out."""
    on_cpu = attribute("is_cpu_op", BOOL, 1)
    call = node(5, COMP, control=[7]) + on_cpu
    caller = node(7, COMP, data=[5], control=[1]) + on_cpu
    assert [phase.after for phase in chakra.parse(trace(call, caller), "t")] == [(), (0,)]
    with pytest.raises(SpecError, match="node id 7 waits for id 1"):
        chakra.parse(trace(node(5, COMP), node(7, COMP, data=[5], control=[1])), "t")


@pytest.mark.parametrize(
    ("kind", "value", "read"), [(INT32, 5, 5), (INT64, 5, 5), (11, 5, 5), (UINT64, 5, 5), (15, 10, 5), (SINT64, 10, 5)]
)
def test_numbers_may_be_of_any_integer_type(kind: int, value: int, read: int) -> None:
    body = node(1, COLL, comm_type=0) + attribute("comm_size", kind, value)
    (collective,) = chakra.parse(trace(body), "t").collectives
    assert collective.size == read


def test_the_last_value_of_an_attribute_holds() -> None:
    twice = block(10, block(1, "comm_size") + block(TEXT, "x") + number(INT64, 6))
    (collective,) = chakra.parse(trace(node(1, COLL, comm_type=0) + twice), "t").collectives
    assert collective.size == 6


def test_fields_that_are_not_known_are_skipped() -> None:
    odd = number(99, 1) + block(98, b"\xff") + varint(97 << 3 | 1) + bytes(8) + varint(96 << 3 | 5) + bytes(4)
    assert len(chakra.parse(trace(node(1, COMP) + odd), "t").phases) == 1


def test_no_nodes_and_no_metadata_are_a_trace() -> None:
    assert chakra.parse(b"\0", "t").phases == ()


# --- all ranks as one graph ---


def test_ranks_become_a_graph() -> None:
    graph = checked(chakra_graph.graph_of(chakra_graph.read_ranks(FILES / "pair"), "pair"))
    assert graph.sends == (
        Send(0, 0, 0, compute_s=100e-6),
        Send(0, 1, 4096, (0,)),
        Send(1, 1, 0, (1,), compute_s=30e-6),
        Send(1, 0, 4096, (2,)),
        Send(0, 0, 0, (1, 3), compute_s=50e-6),
    )
    assert (graph.ranks, graph.input_bytes, graph.output_bytes) == (2, 4096, 4096)


def ranks(*contents: bytes) -> list[Workload]:
    return [chakra.parse(content, f"t.{rank}.et") for rank, content in enumerate(contents)]


PING = node(1, SEND, name="ping", comm_size=8, comm_dst=1)
TAKE = node(1, RECV, name="take", comm_size=8, comm_src=0)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ((trace(PING), trace()), r"t.0.et: node 'ping': found 1 sends and 0 receives from rank 0 to 1, tag 0"),
        ((trace(), trace(TAKE)), r"t.1.et: node 'take': found 0 sends and 1 receives"),
        ((trace(PING), trace(node(1, RECV, name="take", comm_size=9, comm_src=0))), r"receives 9 bytes of 8"),
        ((trace(PING),), r"found a message from rank 0 to rank 1; allowed: ranks 0 to 0, named at both ends"),
        ((trace(node(1, SEND, comm_size=8)),), r"found a message from rank 0 to rank None"),
        ((trace(node(1, COLL, name="all", comm_type=0, comm_size=8)),), r"node 'all': found an all-reduce; allowed"),
        (
            (
                trace(node(1, RECV, comm_size=8, comm_src=1), node(2, SEND, data=[1], comm_size=8, comm_dst=1)),
                trace(node(1, RECV, comm_size=8, comm_src=0), node(2, SEND, data=[1], comm_size=8, comm_dst=0)),
            ),
            r"t.0.et: node 'node 1': waits for itself through other ranks' messages",
        ),
    ],
)
def test_ranks_that_do_not_fit_are_refused(contents: tuple[bytes, ...], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        chakra_graph.graph_of(ranks(*contents), "t")


@pytest.mark.parametrize(("there", "missing"), [((), 0), ((1,), 0), ((0, 2), 1)])
def test_a_missing_rank_is_named(tmp_path: Path, there: tuple[int, ...], missing: int) -> None:
    for rank in there:
        (tmp_path / f"t.{rank}.et").write_bytes(trace())
    (tmp_path / "other.0.et").write_bytes(b"not read")
    with pytest.raises(SpecError, match=f"t: there is no file of rank {missing}; allowed: t.0.et and on"):
        chakra_graph.read_ranks(tmp_path / "t")


# --- what is refused ---

HEAD = trace()  # 8 bytes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"t: byte 0: found no bytes; allowed: GlobalMetadata"),
        (b"\x80", r"t: byte 0: a varint is cut off"),
        (b"\xff" * 20, r"t: byte 0: found a varint of more than 10 bytes"),
        (b"\xff" * 9 + b"\x02", r"t: byte 0: found a varint of more than 64 bits"),
        (b"\x05\x0a", r"t: byte 0: a message says 5 bytes where 1 are left"),
        (HEAD + b"\x7f", r"t: byte 8, node 0 of the file: a message says 127 bytes where 0 are left"),
        (HEAD + b"\x02\x08", r"a message says 2 bytes where 1 are left"),
        (HEAD + b"\0", r"t: byte 9, node 0 of the file: found node type 0; allowed: 1 METADATA_NODE"),
        (trace(node(1, 8)), r"found node type 8"),
        (trace(node(1, COMP), node(1, COMP)), r"node 1 of the file: found id 1, which node 0 of the file has"),
        (trace(node(1, COMP, data=[2])), r"node 0 of the file: node id 1 waits for id 2"),
        (trace(node(1, COMP, data=[1])), r"t: byte 9, node 0 of the file: node id 1 waits for itself"),
        (
            trace(node(1, COMP, data=[2]), node(2, COMP, control=[1])),
            r"node id 1 waits for itself, directly or through others",
        ),
        (trace(node(1, COMP) + b"\x00\x00"), r"found field number 0"),
        (trace(node(1, COMP) + b"\x0b"), r"field 1 has wire type 3; allowed: 0, 1, 2 or 5"),
        (trace(node(1, COMP) + block(1, "x")), r"the node's id has wire type 2; allowed: 0"),
        (trace(node(1, COMP) + number(2, 1)), r"the node's name has wire type 0; allowed: 2"),
        (trace(node(1, COMP) + block(2, b"\xff")), r"the node's name is not UTF-8"),
        (trace(node(1, COMP) + block(2, "x" * 5000)), r"the node's name has 5000 bytes; allowed: at most 4096"),
        (trace(node(1, COMP) + varint(97 << 3 | 1) + bytes(7)), r"field 97 is cut off; allowed: 8 bytes"),
        (trace(node(1, COMP) + varint(5 << 3 | 5) + bytes(4)), r"a dependency has wire type 5"),
        (trace(node(1, COMP, micros=10**15)), r"the node takes 1000000000000000 us; allowed: at most 1000000 s"),
        (trace(node(1, COLL, comm_size=8)), r"found no number comm_type \(COMM_COLL_NODE\)"),
        (trace(node(1, COLL, comm_type=10, comm_size=8)), r"comm_type is 10; allowed: 0 to 9"),
        (trace(node(1, COLL, comm_type=0)), r"found no number comm_size"),
        (trace(node(1, COLL, comm_type=0, comm_size=-8)), r"comm_size is -8 .*; allowed: a whole number from 0"),
        (trace(node(1, COLL, comm_type=0, comm_size="8")), r"found no number comm_size"),
        (trace(node(1, COLL, comm_type=0, comm_size=8, pg_name=3)), r"found a pg_name that is no text"),
        (trace(node(1, SEND, comm_size=0)), r"comm_size is 0 \(COMM_SEND_NODE\); allowed: a whole number from 1"),
        (trace(node(1, SEND, comm_size=8, comm_dst=1024)), r"comm_dst is 1024"),
        (trace(node(1, RECV, comm_size=8, comm_src=2, comm_dst=2)), r"found a message of rank 2 to itself"),
        (b"\x1f\x8bnot gzip", r"t: found gzip that does not unpack"),
        (gzip.compress(step())[:-9], r"t: found gzip that does not unpack"),
        (gzip.compress(step())[:-1] + b"\x01", r"found gzip that does not unpack \(Incorrect length"),
    ],
)
def test_what_is_no_trace_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        chakra.parse(content, "t")


def test_a_send_of_another_rank_is_refused() -> None:
    with pytest.raises(SpecError, match=r"t.0.et: .*: comm_src is 1 in the file of rank 0; allowed: 0"):
        chakra.parse(trace(node(1, SEND, comm_size=8, comm_src=1)), "t.0.et")


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chakra, "MOST_BYTES", 1 << 16)
    with pytest.raises(SpecError, match="t: unpacks to more than 65536 bytes"):
        chakra.parse(gzip.compress(bytes(1 << 17)), "t")


def test_fields_nodes_and_dependencies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf_wire, "MOST_FIELDS", 10)
    with pytest.raises(SpecError, match="node 0 of the file: found more than 10 fields"):
        chakra.parse(trace(number(99, 0) * 11), "t")
    monkeypatch.setattr(chakra, "MOST_EDGES", 3)
    with pytest.raises(SpecError, match="node 1 of the file: found more than 3 dependencies"):
        chakra.parse(trace(node(1, COMP, data=[1, 1]), node(2, COMP, data=[1, 1])), "t")
    monkeypatch.setattr(chakra, "MOST_SENDS", 2)
    with pytest.raises(SpecError, match="node 2 of the file: found more than 2 nodes"):
        chakra.parse(trace(*(node(ident, COMP) for ident in range(3))), "t")


@given(st.integers(0, 2**64 - 1))
def test_varints_read_as_written(value: int) -> None:
    written = varint(value)
    assert protobuf_wire.Wire(written, "t").varint(0, len(written)) == (value, len(written))


@given(st.integers(-(2**63), 2**63 - 1))
def test_signs_read_as_written(value: int) -> None:
    assert protobuf_wire.signed(value % 2**64, 64) == value
    assert protobuf_wire.unzigzag((value << 1) ^ (value >> 63)) == value
