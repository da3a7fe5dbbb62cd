"""Which workload format a file is in, told by what it holds: names lie.

| format | told by |
|---|---|
| Chakra ET | gzip, or bytes that are no text and begin with the length of a GlobalMetadata |
| MSCCL XML | text that begins with < |
| SimAI, ASTRA-sim and Chakra text | text that begins with a policy's name |
| ns-3 flows | text that begins with a number alone on its line, and goes on |
| alltoallv matrix | text that begins with a line of numbers |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from topologies.errors import SpecError, Where
from traffic.graph import Graph
from traffic.workloads import alltoallv_matrix, chakra, msccl_graph, msccl_xml, ns3_flows, simai_text
from traffic.workloads.source import decoded, lines, read_bytes, whole_file
from traffic.workloads.workload import Workload


class Format(StrEnum):
    """The formats that are read."""

    ALLTOALLV = "nccl-tests alltoallv matrix"
    NS3 = "ns-3 flows"
    MSCCL = "MSCCL XML"
    CHAKRA = "Chakra ET"
    SIMAI = "SimAI or ASTRA-sim text"


_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_NUMBER = re.compile(r"[+.]?[0-9][0-9.eE+-]*")
_ALLOWED = "; ".join(
    (
        f"{Format.ALLTOALLV}: a line of bytes for each rank",
        f"{Format.NS3}: the number of flows alone on the first line",
        f"{Format.MSCCL}: <algo …>",
        f"{Format.CHAKRA}: protobuf, gzipped or not, that begins with GlobalMetadata",
        f"{Format.SIMAI}: a policy such as {simai_text.POLICIES[0]} or HYBRID_TRANSFORMER",
    )
)
_HEAD = 1 << 16


def read_workload(path: Path, *, size: int | None = None) -> Graph | Workload:
    """What a workload file describes, whichever of the formats it is in.

    Args:
        size: bytes of the collective, as nccl-tests counts them; an MSCCL algorithm needs it, no other file.

    Raises SpecError with the place, and where the file is none of them, with what it begins with.
    """
    return parse_workload(read_bytes(path), str(path), size=size)


def parse_workload(content: bytes, file: str, *, size: int | None = None) -> Graph | Workload:
    """As `read_workload()`, from memory; `file` is what errors call it."""
    kind = format_of(content, file)
    if kind is Format.MSCCL:
        algorithm = msccl_xml.parse(content, file)
        if size is None:
            raise whole_file(file, "an MSCCL algorithm is of no size", "a size in bytes to play it with")
        return msccl_graph.graph_of(algorithm, size)
    if size is not None:
        raise whole_file(file, f"size is {size}, and the file ({kind}) says its own", "a size for MSCCL XML alone")
    readers: dict[Format, Callable[[bytes, str], Graph | Workload]] = {
        Format.ALLTOALLV: alltoallv_matrix.parse,
        Format.NS3: ns3_flows.parse,
        Format.CHAKRA: chakra.parse,
        Format.SIMAI: simai_text.parse,
    }
    return readers[kind](content, file)


def format_of(content: bytes, file: str) -> Format:
    """The format of a file's bytes. Raises SpecError where they are none."""
    if content.startswith(chakra.GZIP_MAGIC):
        return Format.CHAKRA
    if _NO_TEXT.search(content[:_HEAD]):
        if _begins_with_metadata(content):
            return Format.CHAKRA
        raise _none(file, f"bytes {content[:12].hex(' ')}")
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        return Format.MSCCL
    head = lines(decoded(content, file), file)
    first = next(head, None)
    if first is None:
        raise _none(file, "no line")
    word = first.words[0]
    if word in simai_text.POLICIES:
        return Format.SIMAI
    if not _NUMBER.fullmatch(word):
        raise _none(file, f"{first.words[0][:40]!a}", first.number)
    return Format.NS3 if len(first.words) == 1 and next(head, None) is not None else Format.ALLTOALLV


def _begins_with_metadata(content: bytes) -> bool:
    """Whether a length and then a field of GlobalMetadata come first: version (0x0a) or attr (0x12), or none."""
    length = re.match(rb"[\x80-\xff]{0,4}[\x00-\x7f]", content)
    if length is None:
        return False
    return content[: length.end()] == b"\0" or content[length.end() : length.end() + 1] in {b"\x0a", b"\x12"}


def _none(file: str, begins: str, line: int | None = None) -> SpecError:
    return SpecError(f"found no workload: it begins with {begins}", allowed=_ALLOWED, where=Where(file, line))
