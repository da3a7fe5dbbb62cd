"""Workloads in ASTRA-sim's text, as SimAI's generator and Chakra's text converter use it too.

    HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 8 ep: 1 pp: 1 vpp: 8 ga: 1 all_gpus: 8 …
    2                                                                                how many layers
    attention -1  556000 ALLREDUCE 16777216  1 NONE 0  1 ALLGATHER 67108864  100

A layer has a name, a number nobody reads, then compute time, collective and bytes of the forward pass, of the
gradient to its input and of the gradient of its weights, and the time its update takes. One step of training: forward
through the layers, then back. What waits for what is the policy's (line 1): see `_POLICIES`. A collective's group is
its suffix (_EP, _DP_EP), else TP, or DP for gradients of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from traffic.workloads.source import (
    MOST_SECONDS,
    MOST_SENDS,
    MOST_SIZE,
    Line,
    decoded,
    lines,
    read_bytes,
    shown,
    whole_file,
)
from traffic.workloads.workload import Collective, CollectiveKind, Compute, Phase, Workload

NANOSECOND = 1e-9
MOST_LAYERS = 1 << 15
COLUMNS = (
    *("name", "dep"),
    *("fwd_time", "fwd_comm", "fwd_bytes"),
    *("ig_time", "ig_comm", "ig_bytes"),
    *("wg_time", "wg_comm", "wg_bytes"),
    "update",
)
KINDS = {
    "ALLREDUCE": CollectiveKind.ALL_REDUCE,
    "ALLTOALL": CollectiveKind.ALL_TO_ALL,
    "ALLGATHER": CollectiveKind.ALL_GATHER,
    "REDUCESCATTER": CollectiveKind.REDUCE_SCATTER,
}
_SUFFIXES = {"": "", "_EP": "EP", "_DP_EP": "DP_EP"}
_MOST_TICKS = 10**18
_MOST_COUNT = 10**9


@dataclass(frozen=True, slots=True)
class Policy:
    """Which collectives a policy has, and what waits for them.

    `forward`: the next layer's forward pass waits for this one's collective. `to_input`: the gradient to the input has
    a collective; the layer before waits for it, and with `to_input_blocks` this layer's weights do too. `weights`: so
    has the gradient of the weights, beside everything else. `weights_first`: of the two gradients, that comes first.
    """

    forward: bool = False
    to_input: bool = False
    to_input_blocks: bool = False
    weights: bool = False
    weights_first: bool = False
    backward: bool = True


_HYBRID = Policy(forward=True, to_input=True, weights=True)
_TRANSFORMER = Policy(forward=True, to_input=True, to_input_blocks=True, weights=True)
_POLICIES: Mapping[str, Policy] = {
    "DATA": Policy(weights=True, weights_first=True),
    "MODEL": Policy(forward=True, to_input=True),
    "HYBRID_DATA_MODEL": _HYBRID,
    "HYBRID_MODEL_DATA": _HYBRID,
    "HYBRID_TRANSFORMER": _TRANSFORMER,
    "HYBRID_TRANSFORMER_FWD_IN_BCKWD": _TRANSFORMER,
    "DISTRIBUTED_INFERENCE": Policy(forward=True, backward=False),
    "MICRO": Policy(weights=True, backward=False),
}
# Known to the simulators, and refused: their order depends on more than the file says.
_REFUSED = ("HYBRID_DLRM", "HYBRID_DLRM_ENHANCED", "HYBRID_CUSTOMIZED")
POLICIES = (*_POLICIES, *_REFUSED)


def read(path: Path, *, tick_s: float = NANOSECOND) -> Workload:
    """One training step of a workload file; every rank does the same.

    Args:
        tick_s: seconds of the file's unit of time: nanoseconds for SimAI; Chakra's converter takes the same numbers for
            microseconds (1e-6).

    Raises SpecError with line and column.
    """
    return parse(read_bytes(path), str(path), tick_s=tick_s)


def parse(content: bytes, file: str, *, tick_s: float = NANOSECOND) -> Workload:
    """As `read()`, from memory; `file` is what errors call it."""
    rest = lines(decoded(content, file), file)
    header, second = next(rest, None), next(rest, None)
    if header is None or second is None:
        raise whole_file(file, "found no two lines", f"{' | '.join(_POLICIES)}, then the number of layers")
    policy = _policy(header)
    facts = _Header(header)
    second.expect_words(("layers",))
    count = second.whole(0, "the number of layers", 1, MOST_LAYERS)
    layers: list[_Layer] = []
    for line in rest:
        if len(layers) == count:
            raise line.error(f"found layer {count + 1}", allowed=f"{count}, as line {second.number} says", word=0)
        layers.append(_layer(line, tick_s))
    if len(layers) < count:
        raise second.error(f"found {len(layers)} layers", allowed=f"{count}, as this line says", word=0)
    recomputed = facts.recomputed(count)
    step = _Step(policy, layers, header)
    step.play(recomputed, micro=header.words[0] == "MICRO")
    parameters = MappingProxyType(dict(facts.numbers))
    return Workload(file, tuple(step.phases), group_sizes=_group_sizes(parameters), parameters=parameters)


@dataclass(frozen=True, slots=True)
class _Part:
    """Compute, then a collective, of one layer in one pass."""

    seconds: float
    kind: CollectiveKind | None
    size: int
    group: str


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    forward: _Part
    to_input: _Part
    weights: _Part
    update_s: float


def _policy(line: Line) -> Policy:
    name = line.words[0]
    if name in _REFUSED:
        raise line.error(
            f"found policy {name}",
            allowed=f"{', '.join(_POLICIES)}; its own order needs more than the file says",
            word=0,
        )
    if name not in _POLICIES:
        raise line.error(f"found policy {shown(name)}", allowed=", ".join(_POLICIES), word=0)
    return _POLICIES[name]


class _Header:
    """Line 1 behind the policy: `key: number`, lists of layers as `key: count layer layer …`, and `pp_comm number`."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.numbers: dict[str, int] = {}
        self.lists: dict[str, list[tuple[int, int]]] = {"checkpoints": [], "checkpoint_initiates": []}
        word = 1
        while word < len(line.words):
            word = self._one(word)

    def _one(self, word: int) -> int:
        line = self.line
        key = line.words[word].removesuffix(":")
        if key == line.words[word] and key != "pp_comm":
            raise line.error(f"found {shown(key)}", allowed="a key with ':', or pp_comm", word=word)
        if key in self.numbers:
            raise line.error(f"found {shown(key)} a second time", allowed="each once", word=word)
        if word + 1 == len(line.words):
            raise line.error(f"found no number after {shown(key)}", allowed="a whole number", word=word + 1)
        most = MOST_SIZE if key == "pp_comm" else _MOST_COUNT
        self.numbers[key] = number = line.whole(word + 1, key, 0, most)
        word += 2
        if key in self.lists:
            if number > len(line.words) - word:
                found = f"found {len(line.words) - word} words after {key}"
                raise line.error(found, allowed=f"{number} layers", word=word - 1)
            self.lists[key] = [
                (place, line.whole(place, f"a layer of {key}", 0, MOST_LAYERS)) for place in range(word, word + number)
            ]
            word += number
        return word

    def recomputed(self, layers: int) -> Mapping[int, int]:
        """Where the way back does parts of the forward pass again: before this layer, from that checkpoint on."""
        for place, layer in (entry for entries in self.lists.values() for entry in entries):
            if layer >= layers:
                raise self.line.error(f"found layer {layer}", allowed=f"0 to {layers - 1}", word=place)
        saved = sorted(layer for _, layer in self.lists["checkpoints"])
        starts: dict[int, int] = {}
        for place, layer in self.lists["checkpoint_initiates"]:
            earlier = [checkpoint for checkpoint in saved if checkpoint <= layer]
            if not earlier:
                allowed = "a layer with a checkpoint at or before it"
                raise self.line.error(f"layer {layer} has no checkpoint to start from", allowed=allowed, word=place)
            starts[layer] = earlier[-1]
        return starts


def _layer(line: Line, tick_s: float) -> _Layer:
    line.expect_words(COLUMNS)
    line.whole(1, "dep", -1, MOST_LAYERS)
    forward, to_input, weights = (_part(line, word, group, tick_s) for word, group in ((2, "TP"), (5, "TP"), (8, "DP")))
    return _Layer(line.words[0], forward, to_input, weights, _seconds(line, 11, tick_s))


def _seconds(line: Line, word: int, tick_s: float) -> float:
    seconds = line.whole(word, COLUMNS[word], 0, _MOST_TICKS) * tick_s
    if not 0 <= seconds <= MOST_SECONDS:
        raise line.error(f"{COLUMNS[word]} is {seconds:g} s", allowed=f"at most {MOST_SECONDS:.0f} s", word=word)
    return seconds


def _part(line: Line, word: int, group: str, tick_s: float) -> _Part:
    seconds = _seconds(line, word, tick_s)
    size = line.whole(word + 2, COLUMNS[word + 2], 0, MOST_SIZE)
    text = line.words[word + 1]
    base, bar, rest = text.partition("_")
    suffix = bar + rest
    if text != "NONE" and (base not in KINDS or suffix not in _SUFFIXES):
        allowed = f"NONE, or {', '.join(KINDS)}, alone or with {' or '.join(filter(None, _SUFFIXES))}"
        raise line.error(f"{COLUMNS[word + 1]} is {shown(text)}", allowed=allowed, word=word + 1)
    return _Part(seconds, KINDS.get(base) if size else None, size, _SUFFIXES[suffix] or group)


def _group_sizes(numbers: Mapping[str, int]) -> Mapping[str, int]:
    """Ranks in a group, as far as the header tells."""
    ranks, tensor, experts = (numbers.get(key, 0) for key in ("all_gpus", "model_parallel_NPU_group", "ep"))
    pipeline = numbers.get("pp", 0) or 1
    sizes = {"TP": tensor, "EP": experts}
    if ranks and tensor and not ranks % (tensor * pipeline):
        sizes["DP"] = ranks // (tensor * pipeline)
        if experts and not sizes["DP"] % experts:
            sizes["DP_EP"] = sizes["DP"] // experts
    return MappingProxyType({group: size for group, size in sizes.items() if size})


class _Step:
    """Writes down one training step, phase by phase."""

    def __init__(self, policy: Policy, layers: list[_Layer], header: Line) -> None:
        self.policy = policy
        self.layers = layers
        self.header = header
        self.phases: list[Phase] = []

    def play(self, recomputed: Mapping[int, int], *, micro: bool) -> None:
        """The whole step. `micro`: collectives of the weights alone, none waiting."""
        if micro:
            for layer in self.layers:
                self._collective(layer.name, "weights", layer.weights, ())
            return
        last: tuple[int, ...] = ()
        for layer in self.layers:
            last = self._forward(layer, last, "forward")
        if not self.policy.backward:
            return
        for number in range(len(self.layers) - 1, -1, -1):
            if number in recomputed:
                for layer in self.layers[recomputed[number] : number]:
                    last = self._forward(layer, last, "forward again")
            last = self._backward(self.layers[number], last, first=number == 0)

    def _forward(self, layer: _Layer, after: tuple[int, ...], what: str) -> tuple[int, ...]:
        computed = self._compute(layer.name, what, layer.forward.seconds, after)
        if not self.policy.forward:
            return computed
        return self._collective(layer.name, what, layer.forward, computed) or computed

    def _backward(self, layer: _Layer, after: tuple[int, ...], *, first: bool) -> tuple[int, ...]:
        """What the layer before waits for."""
        if self.policy.weights_first:
            weights = self._weights(layer, after)
            return weights if first else self._compute(layer.name, "to input", layer.to_input.seconds, weights)
        computed = self._compute(layer.name, "to input", layer.to_input.seconds, after)
        sent: tuple[int, ...] = ()
        if self.policy.to_input and (self.policy.to_input_blocks or not first):
            sent = self._collective(layer.name, "to input", layer.to_input, computed)
        weights = self._weights(layer, sent or computed if self.policy.to_input_blocks else computed)
        return weights if self.policy.to_input_blocks else (*weights, *sent)

    def _weights(self, layer: _Layer, after: tuple[int, ...]) -> tuple[int, ...]:
        """The gradient of the weights; its collective and the update run beside what follows."""
        computed = self._compute(layer.name, "weights", layer.weights.seconds, after)
        if self.policy.weights:
            sent = self._collective(layer.name, "weights", layer.weights, computed)
            if sent and layer.update_s:
                self._compute(layer.name, "update", layer.update_s, sent)
        return computed

    def _compute(self, layer: str, what: str, seconds: float, after: tuple[int, ...]) -> tuple[int, ...]:
        return self._add(Compute(f"{layer} {what}", seconds, after))

    def _collective(self, layer: str, what: str, part: _Part, after: tuple[int, ...]) -> tuple[int, ...]:
        """Its place; nothing where the layer has none."""
        if part.kind is None:
            return ()
        return self._add(Collective(f"{layer} {what}", part.kind, part.size, part.group, after))

    def _add(self, phase: Phase) -> tuple[int, ...]:
        if len(self.phases) >= MOST_SENDS:
            raise self.header.error(f"found more than {MOST_SENDS} phases", allowed=f"at most {MOST_SENDS}", word=0)
        self.phases.append(phase)
        return (len(self.phases) - 1,)
