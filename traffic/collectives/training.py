"""What a training or inference job sends between and beside its computing.

Compute times are those of a rank of scale 1; `traffic.placement` scales them for slower and faster accelerators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topologies.errors import SpecError
from traffic.collectives.alltoall import pairwise
from traffic.collectives.ring import ring_add, ring_pass
from traffic.collectives.score import INPUT, OUTPUT, Place, Ranks, Score, counted, spans
from traffic.collectives.skew import Matrix, shared_out, square
from traffic.graph import Buffer, Graph


def pipeline(
    ranks: Ranks, *, microbatches: int, size: int, forward_s: float = 0.0, backward_s: float = 0.0, element: int = 4
) -> Graph:
    """One step of pipeline parallelism, one forward one backward (1F1B): rank s is stage s.

    Activations of `size` bytes go down the stages, gradients of the same size back up: 2 m (p-1) transfers. A stage
    s works ahead on at most p - s micro-batches, as many as it can keep the activations of.

    Outputs hold m activations, then m gradients; the last stage's gradient is what it was sent.
    """
    score = Score(ranks, element=element)
    if microbatches < 1:
        raise SpecError(f"{microbatches} micro-batches", allowed="1 or more")
    spans(size, 1, element)
    stages = [_one_f_one_b(stage, score.ranks, microbatches) for stage in range(score.ranks)]
    line = _Pipeline(score, microbatches, size, forward_s, backward_s)
    told = [0] * score.ranks
    while any(told[stage] < len(work) for stage, work in enumerate(stages)):
        for stage, work in enumerate(stages):
            while told[stage] < len(work) and line.can(stage, *work[told[stage]]):
                line.work(stage, *work[told[stage]])
                told[stage] += 1
    name = f"pipeline of {score.ranks} stages, {microbatches} micro-batches"
    return score.graph(name, input_bytes=microbatches * size, output_bytes=2 * microbatches * size)


def _one_f_one_b(stage: int, stages: int, microbatches: int) -> list[tuple[str, int]]:
    """What a stage computes, in order: ("f", micro-batch) or ("b", micro-batch)."""
    ahead = min(stages - 1 - stage, microbatches)
    work = [("f", batch) for batch in range(ahead)]
    for batch in range(microbatches - ahead):
        work += [("f", ahead + batch), ("b", batch)]
    return work + [("b", batch) for batch in range(microbatches - ahead, microbatches)]


class _Pipeline:
    """A pipeline being written: what has come to each stage, and what each did last."""

    def __init__(self, score: Score, microbatches: int, size: int, forward_s: float, backward_s: float) -> None:
        self._score, self._batches, self._size = score, microbatches, size
        self._seconds = {"f": forward_s, "b": backward_s}
        self._last = score.ranks - 1
        self._come: dict[tuple[int, str, int], int | None] = {(0, "f", batch): None for batch in range(microbatches)}
        self._did: dict[int, int] = {}

    def can(self, stage: int, way: str, batch: int) -> bool:
        """True when what this work needs has been sent to the stage."""
        return (stage, way, batch) in self._come

    def work(self, stage: int, way: str, batch: int) -> None:
        """Compute, then send to the next stage, or back to the one before."""
        waits = [self._come[stage, way, batch], self._did.get(stage)]
        did = self._score.compute(stage, self._seconds[way], after=waits, step=batch)
        self._did[stage] = did
        forwards, backwards = OUTPUT + batch * self._size, OUTPUT + (self._batches + batch) * self._size
        if way == "f" and stage == self._last:
            self._come[stage, "b", batch] = did
            self._score.copy(stage, self._size, forwards, backwards, step=batch)
        elif way == "f":
            begin = INPUT + batch * self._size if stage == 0 else forwards
            self._hand(stage, stage + 1, way, batch, begin, forwards, did)
        elif stage > 0:
            self._hand(stage, stage - 1, way, batch, backwards, backwards, did)

    def _hand(self, stage: int, to: int, way: str, batch: int, begin: Place, end: Place, did: int) -> None:
        sent = self._score.send(stage, to, self._size, begin, end, step=batch, after=[did])
        self._come[to, way, batch] = sent


def fsdp_step(
    ranks: Ranks,
    *,
    layers: Sequence[int],
    forward_s: float = 0.0,
    backward_s: float = 0.0,
    prefetch: int = 1,
    element: int = 4,
) -> Graph:
    """One step of fully sharded data parallelism: gather a layer's parameters before each pass, sum its gradients.

    Bytes a rank sends for P bytes of a layer: 3 (n-1)/n P; rings.

    Args:
        layers: bytes of parameters of each layer.
        forward_s: seconds one layer's forward pass takes; `backward_s` the same of its backward pass.
        prefetch: how many layers ahead of its computing a rank gathers (0: no overlap).

    Inputs hold the shards of all layers, then their gradients; outputs the layers as the forward passes gathered
    them, then as the backward ones did, then the sums' shards. Raises SpecError for no layers, or a negative
    prefetch.
    """
    if not layers or prefetch < 0:
        raise SpecError(f"{len(layers)} layers, prefetch {prefetch}", allowed="1 layer or more, prefetch 0 or more")
    score = Score(ranks, element=element)
    step = _Fsdp(score, layers)
    passes = [(layer, False) for layer in range(len(layers))]
    passes += [(layer, True) for layer in reversed(range(len(layers)))]
    computed: list[dict[int, list[int | None]]] = []
    for turn, (layer, back) in enumerate(passes):
        gates = computed[turn - prefetch - 1] if turn > prefetch else {}
        gathered = step.gather(layer, back=back, gates=gates)
        seconds = backward_s if back else forward_s
        before: dict[int, list[int | None]] = computed[-1] if computed else {}
        done: dict[int, list[int | None]] = {
            rank: [score.compute(rank, seconds, after=gathered[rank] + before.get(rank, []), step=turn)]
            for rank in range(score.ranks)
        }
        computed.append(done)
        if back:
            step.reduce(layer, gates=done)
    name = f"FSDP step of {score.ranks} ranks, {len(layers)} layers"
    return score.graph(name, input_bytes=step.input_bytes, output_bytes=step.output_bytes)


class _Fsdp:
    """Where the layers of a step stand, and their collectives."""

    def __init__(self, score: Score, layers: Sequence[int]) -> None:
        self._score = score
        self._shares = [spans(size, score.ranks, score.element) for size in layers]
        self._begins = [sum(layers[:layer]) for layer in range(len(layers))]
        self._shards = [sum(shares[0].size for shares in self._shares[:layer]) for layer in range(len(layers) + 1)]
        self._total = sum(layers)
        self.input_bytes = self._shards[-1] + self._total
        self.output_bytes = 2 * self._total + self._shards[-1]

    def gather(self, layer: int, *, back: bool, gates: Mapping[int, list[int | None]]) -> dict[int, list[int | None]]:
        """The layer to everybody; gives what each rank has to wait for to have it."""
        score, shares = self._score, self._shares[layer]
        base = OUTPUT + self._begins[layer] + (self._total if back else 0)
        for rank, share in enumerate(shares):
            score.copy(rank, share.size, INPUT + self._shards[layer], base + share.offset)
        ring_pass(score, range(score.ranks), shares, base=base, gates=gates)
        size = sum(share.size for share in shares)
        return {rank: list(score.writers(rank, base, size)) for rank in range(score.ranks)}

    def reduce(self, layer: int, *, gates: Mapping[int, list[int | None]]) -> None:
        """The gradients' sums to their shards."""
        score = self._score
        shares = spans(
            sum(share.size for share in self._shares[layer]),
            score.ranks,
            score.element,
            base=self._shards[-1] + self._begins[layer],
        )
        result = OUTPUT + 2 * self._total + self._shards[layer]
        ring_add(score, range(score.ranks), shares, results=[result] * score.ranks, gates=gates)


def moe_matrix(
    ranks: int, *, tokens: int, top_k: int, hidden: int, weights: Sequence[float], token_bytes: int = 2
) -> Matrix:
    """Bytes of a dispatch: rank i sends `tokens` times `top_k` vectors to the experts' ranks by `weights`.

    M[i][j] = tokens top_k p_j hidden token_bytes, in whole tokens. Combine is its transpose.
    """
    if len(weights) != ranks or min(weights, default=0) < 0 or sum(weights) <= 0:
        raise SpecError(f"weights {list(weights)}", allowed=f"{ranks}, none below 0, not all 0")
    row = tuple(count * hidden * token_bytes for count in shared_out(tokens * top_k, weights))
    return (row,) * ranks


def moe_layer(
    ranks: Ranks,
    matrix: Sequence[Sequence[int]],
    *,
    expert_s_per_byte: float = 0.0,
    in_flight: int | None = None,
    element: int = 2,
) -> Graph:
    """Dispatch by `matrix`, the experts' computing, combine by its transpose: outputs are the inputs again.

    Args:
        expert_s_per_byte: seconds a rank computes for every byte it was dispatched.
    """
    count, _ = counted(ranks)
    rows = square(matrix, element=element)
    if len(rows) != count:
        raise SpecError(f"a matrix of {len(rows)} ranks for {count}", allowed="a row a rank")
    score = Score(ranks, element=element)
    columns = tuple(tuple(column) for column in zip(*rows, strict=True))
    most = max(sum(column) for column in columns)
    come, done = (score.everywhere(most) for _ in range(2))
    pairwise(score, rows, end=come, in_flight=in_flight)
    for rank, column in enumerate(columns):
        size = sum(column)
        did = score.compute(rank, size * expert_s_per_byte, after=score.writers(rank, come, size), step=count - 1)
        score.send(rank, rank, size, come, done, step=count - 1, after=[did])
    pairwise(score, columns, begin=done, in_flight=in_flight, step=count)
    largest = max(sum(row) for row in rows)
    return score.graph(f"MoE layer of {count}", input_bytes=largest, output_bytes=largest)


@dataclass(frozen=True, slots=True)
class Prefill:
    """A request: rank `prefill` computes the keys and values of `tokens` tokens, rank `decode` goes on with them."""

    prefill: int
    decode: int
    tokens: int


def cache_transfers(
    ranks: Ranks,
    requests: Sequence[Prefill],
    *,
    layers: int,
    bytes_per_token: int,
    layer_s_per_token: float = 0.0,
    element: int = 2,
) -> Graph:
    """Caches of disaggregated inference: each layer's part is sent as soon as it is computed, request after request.

    Args:
        bytes_per_token: of one layer: 2 x heads x head size x bytes of a number.
        layer_s_per_token: seconds the prefill of one layer takes, a token.

    A prefill rank's input holds its requests' caches side by side, and so does a decode rank's output.
    Raises SpecError for a rank that is not there, both roles in one rank, or a request without tokens.
    """
    score = Score(ranks, element=element)
    filled, decoded = [0] * score.ranks, [0] * score.ranks
    last: dict[int, int] = {}
    for number, request in enumerate(requests):
        _check_request(request, number, score.ranks)
        part = request.tokens * bytes_per_token
        for layer in range(layers):
            seconds = request.tokens * layer_s_per_token
            did = score.compute(request.prefill, seconds, after=[last.get(request.prefill)], step=layer)
            last[request.prefill] = did
            begin, end = INPUT + filled[request.prefill], Place(Buffer.OUTPUT, decoded[request.decode])
            score.send(request.prefill, request.decode, part, begin, end, step=layer, after=[did])
            filled[request.prefill] += part
            decoded[request.decode] += part
    name = f"{len(requests)} cache transfers"
    return score.graph(name, input_bytes=max(filled), output_bytes=max(decoded))


def _check_request(request: Prefill, number: int, ranks: int) -> None:
    for word, rank in (("prefill", request.prefill), ("decode", request.decode)):
        if not 0 <= rank < ranks:
            raise SpecError(f"request {number}: {word} rank {rank}", allowed=f"0 to {ranks - 1}")
    if request.prefill == request.decode or request.tokens < 1:
        found = f"request {number}: {request.tokens} tokens from {request.prefill} to {request.decode}"
        raise SpecError(found, allowed="1 token or more, two different ranks")
