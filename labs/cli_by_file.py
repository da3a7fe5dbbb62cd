"""What `railbed traffic` takes from files and nccl-tests' variables: matrices, skews, workloads, communicators."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labs.errors import SpecError
from topologies.errors import Where
from traffic.busbw import Collective, busiest

if TYPE_CHECKING:
    from traffic.graph import Graph
    from traffic.patterns import Pattern, Uneven
    from traffic.placement import Placement
    from traffic.workloads.workload import Workload

MATRIX = "NCCL_TESTS_ALLTOALLV_MATRIX_FILE"
MATRIX_SCALE = "NCCL_TESTS_ALLTOALLV_MATRIX_SCALE"
SPREAD = "NCCL_TESTS_ALLTOALLV_SPREAD"
SPLIT_MASK = "NCCL_TESTS_SPLIT_MASK"
SPLIT = "NCCL_TESTS_SPLIT"
SKEWS = "zipf:ALPHA, as zipf:1.2, or spread:SHARE, as spread:0.5 (0 to 1)"
# What MSCCL's `coll` stands for; bandwidths of another one are not defined.
MSCCL_COLLECTIVES = {
    "allreduce": Collective.ALL_REDUCE,
    "allgather": Collective.ALL_GATHER,
    "reduce_scatter": Collective.REDUCE_SCATTER,
    "reducescatter": Collective.REDUCE_SCATTER,
    "alltoall": Collective.ALL_TO_ALL,
    "broadcast": Collective.BROADCAST,
    "reduce": Collective.REDUCE,
    "gather": Collective.GATHER,
    "scatter": Collective.SCATTER,
}
SIZED = frozenset({"minbytes", "maxbytes", "stepbytes", "stepfactor"})
CHOSEN = {"minbytes": "-b", "maxbytes": "-e", "stepbytes": "-i", "stepfactor": "-f", "algorithm": "--algorithm",
          "root": "-r", "communicators": "--communicators", "matrix": "--matrix",
          "matrix_scale": "--matrix-scale", "skew": "--skew"}  # fmt: skip


def refuse_beside(option: str, chosen: frozenset[str], words: frozenset[str], because: str) -> None:
    """Raise SpecError for options that were said and mean nothing beside `option`."""
    if found := sorted(CHOSEN[word] for word in chosen & words):
        raise SpecError(f"{' '.join(found)} with {option}", allowed=because)


def uneven(collective: Collective, options: Mapping[str, object], chosen: frozenset[str], seed: int) -> Uneven | None:
    """The bytes of an alltoallv: of --matrix, of --skew, of nccl-tests' variables, in this order; None without.

    Raises SpecError for a file or a skew that cannot be meant, or either for another pattern.
    """
    matrix, skew = options["matrix"], options["skew"]
    if collective is not Collective.ALL_TO_ALL_V:
        words = frozenset({"matrix", "matrix_scale", "skew"})
        refuse_beside(str(collective), chosen, words, "alltoallv: others send everybody the same")
        return None
    if matrix and skew:
        raise SpecError("--matrix and --skew", allowed="one of them")
    file = matrix or (None if skew else os.environ.get(MATRIX))
    if file:
        refuse_beside("a matrix", chosen, SIZED, "the matrix's own sizes; --matrix-scale multiplies them")
        return from_matrix(Path(str(file)), _scale(options["matrix_scale"]))
    if options["matrix_scale"] is not None:
        raise SpecError("--matrix-scale without a matrix", allowed="--matrix FILE --matrix-scale X")
    word = str(skew) if skew else f"spread:{os.environ[SPREAD]}" if os.environ.get(SPREAD) else None
    return None if word is None else skewed(word, seed)


def _scale(given: object) -> float:
    text = str(given) if given is not None else os.environ.get(MATRIX_SCALE, "1")
    try:
        return float(text)
    except ValueError:
        raise SpecError(f"scale {text!r}", allowed="a number from 0") from None


def from_matrix(file: Path, scale: float = 1.0) -> Uneven:
    """An alltoallv matrix file. Raises SpecError with line and column, and for one of which nothing leaves a rank."""
    from traffic.patterns import Uneven
    from traffic.workloads.alltoallv_matrix import read_matrix

    rows = tuple(tuple(int(size) for size in row) for row in read_matrix(file, scale=scale))
    if not any(size for src, row in enumerate(rows) for dst, size in enumerate(row) if src != dst):
        found = f"no rank sends another 16 bytes{f', times {scale}' if scale != 1 else ''}"
        raise SpecError(found, allowed="a matrix with bytes beside its diagonal", where=Where(str(file)))
    return Uneven(lambda _ranks, _size: rows, busiest(rows), len(rows))


def skewed(text: str, seed: int) -> Uneven:
    """``zipf:1.2``: columns fall as 1/k^1.2, in an order drawn from the seed; ``spread:0.5``: as nccl-tests has it."""
    from traffic.collectives.skew import spread_matrix, zipf_matrix, zipf_weights
    from traffic.patterns import Uneven

    word, _, digits = text.partition(":")
    try:
        number = float(digits)
    except ValueError:
        raise SpecError(f"--skew {text}", allowed=SKEWS) from None
    if word == "zipf" and 0 <= number <= 100:
        zipf_weights(2, alpha=number)
        return Uneven(lambda ranks, size: zipf_matrix(ranks, size=size, alpha=number, seed=seed))
    if word == "spread" and 0 <= number <= 1:
        return Uneven(lambda ranks, size: spread_matrix(ranks, size=size, spread=number))
    raise SpecError(f"--skew {text}", allowed=SKEWS)


def communicators(text: str | None, ranks: int) -> tuple[tuple[int, ...], ...]:
    """Which ranks play together, by --communicators or nccl-tests' variables; none where all of them do.

    A number alone is a mask, hexadecimal as in NCCL_TESTS_SPLIT_MASK, which goes before NCCL_TESTS_SPLIT.

    Raises SpecError for communicators of different sizes (a line has one bandwidth) or of one rank.
    """
    from traffic.composing import split

    how = text
    if how is None and (mask := os.environ.get(SPLIT_MASK)):
        how = mask
    elif how is None:
        how = os.environ.get(SPLIT)
    if not how:
        return ()
    digits = how.strip().lower().removeprefix("0x")
    if digits and all(letter in "0123456789abcdef" for letter in digits):
        how = f"AND 0x{digits}"
    found = split(ranks, how)
    sizes = sorted({len(one) for one in found})
    if len(sizes) > 1 or sizes[0] < 2:
        said = f"{how!r} makes communicators of {' and '.join(map(str, sizes))} of {ranks} ranks"
        raise SpecError(said, allowed="all of one size, 2 ranks or more")
    return found if len(found) > 1 else ()


def first_ranks(placement: Placement, ranks: int, file: str) -> Placement:
    """The places of a file's ranks, the first ones. Raises SpecError for a file of more ranks than there are."""
    from traffic.placement import checked_placement

    if ranks > len(placement.ranks):
        found = f"{ranks} ranks; {len(placement.ranks)} cards of the lab's hosts are there for them"
        raise SpecError(found, allowed=f"up to {len(placement.ranks)}: a rank a card", where=Where(file))
    return checked_placement(placement.ranks[:ranks])


def workload(file: Path, ranks: int) -> Pattern | Graph:
    """What a file of any format that is read plays: a pattern, where nccl-tests defines its bandwidths, or a graph.

    Args:
        ranks: how many the lab has, for a workload that is the same for any number of them.

    Raises SpecError with the place in the file.
    """
    from traffic.patterns import Pattern
    from traffic.workloads import msccl_graph, msccl_xml
    from traffic.workloads.recognise import Format, format_of, parse_workload
    from traffic.workloads.source import read_bytes
    from traffic.workloads.workload import Workload

    content, name = read_bytes(file), str(file)
    kind = format_of(content, name)
    if kind is Format.ALLTOALLV:
        return Pattern(Collective.ALL_TO_ALL_V, "at-once", from_matrix(file))
    if kind is Format.MSCCL:
        algorithm = msccl_xml.parse(content, name)
        if (meant := MSCCL_COLLECTIVES.get(algorithm.collective)) is None:
            found = f"coll is {algorithm.collective!r}, of which nobody defines a bandwidth"
            raise SpecError(found, allowed=", ".join(MSCCL_COLLECTIVES), where=Where(name))

        def build(_ranks: int, size: int, _root: int, _inside: bool) -> Graph:
            return msccl_graph.graph_of(algorithm, size)

        return Pattern(meant, algorithm.name, build=build, in_place=algorithm.in_place, only_ranks=len(algorithm.gpus))
    read = parse_workload(content, name)
    return phased(read, file, ranks) if isinstance(read, Workload) else read


def phased(one: Workload, file: Path, ranks: int) -> Graph:
    """The graph of a workload of phases: of every rank the same, or, of a Chakra trace, all ranks' files."""
    from traffic.workloads import chakra_graph, phases
    from traffic.workloads.workload import Message

    if one.rank is None and not file.name.endswith(".et"):
        asked = one.parameters.get("all_gpus", ranks)
        if asked > ranks:  # before so many graphs are made
            found = f"all_gpus: {asked}; {ranks} cards of the lab's hosts are there for them"
            raise SpecError(found, allowed=f"up to {ranks}: a rank a card", where=Where(str(file)))
        return phases.graph_of([one] * asked, str(file))
    prefix, _, number = file.name.removesuffix(".et").rpartition(".")
    if not prefix or not number.isdecimal():
        found = "a trace of one rank"
        raise SpecError(found, allowed="PREFIX.0.et, with all ranks' files beside it", where=Where(str(file)))
    traces = chakra_graph.read_ranks(file.with_name(prefix))
    messages: Sequence[bool] = [isinstance(phase, Message) for trace in traces for phase in trace]
    return chakra_graph.graph_of(traces, prefix) if any(messages) else phases.graph_of(traces, prefix)
