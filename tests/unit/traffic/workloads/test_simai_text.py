from __future__ import annotations

from pathlib import Path

import pytest

from topologies.errors import SpecError
from traffic.workloads import simai_text
from traffic.workloads.workload import Collective, CollectiveKind, Compute, Workload

FILES = Path(__file__).parent / "files"


def told(workload: Workload) -> list[str]:
    """Phases as lines to compare: what, in which group, how much, after whom."""
    lines = []
    for phase in workload:
        after = ",".join(workload.phases[place].name.replace(" ", "_") for place in phase.after)
        if isinstance(phase, Compute):
            lines.append(f"{phase.name}: {phase.seconds * 1e9:.0f} ns, after {after or 'nothing'}")
        elif isinstance(phase, Collective):
            lines.append(f"{phase.name}: {phase.kind} {phase.size} {phase.group}, after {after or 'nothing'}")
    return lines


def test_a_transformers_step_with_a_checkpoint() -> None:
    workload = simai_text.read(FILES / "transformer.simai")
    assert told(workload) == [
        "attention forward: 1000 ns, after nothing",
        "attention forward: all-reduce 4096 TP, after attention_forward",
        "mlp forward: 4000 ns, after attention_forward",
        "mlp forward: all-to-all 1024 EP, after mlp_forward",
        "attention forward again: 1000 ns, after mlp_forward",
        "attention forward again: all-reduce 4096 TP, after attention_forward_again",
        "mlp to input: 5000 ns, after attention_forward_again",
        "mlp weights: 6000 ns, after mlp_to_input",
        "mlp weights: all-gather 2048 DP_EP, after mlp_weights",
        "mlp update: 20 ns, after mlp_weights",
        "attention to input: 2000 ns, after mlp_weights",
        "attention to input: all-reduce 8192 EP, after attention_to_input",
        "attention weights: 3000 ns, after attention_to_input",
    ]
    # The weights' collective (place 8) runs beside the rest: the way back waits for its computing (7) alone.
    assert workload.phases[10].after == (7,)
    assert workload.phases[9].after == (8,)
    assert workload.group_sizes == {"TP": 2, "EP": 2, "DP": 4, "DP_EP": 2}
    assert workload.parameters["all_gpus"] == 8
    assert workload.rank is None


def test_data_parallel_layers_send_gradients_beside_the_way_back() -> None:
    workload = simai_text.read(FILES / "data.simai", tick_s=1e-6)
    names = [(type(phase).__name__, phase.name, phase.after) for phase in workload]
    assert names == [
        ("Compute", "conv1 forward", ()),
        ("Compute", "fc forward", (0,)),
        ("Compute", "fc weights", (1,)),
        ("Collective", "fc weights", (2,)),
        ("Compute", "fc update", (3,)),
        ("Compute", "fc to input", (2,)),
        ("Compute", "conv1 weights", (5,)),
        ("Collective", "conv1 weights", (6,)),
        ("Compute", "conv1 update", (7,)),
    ]
    first = workload.phases[0]
    assert isinstance(first, Compute)
    assert first.seconds == pytest.approx(5e-6)
    assert [(one.kind, one.size, one.group) for one in workload.collectives] == [
        (CollectiveKind.ALL_REDUCE, 200, "DP"),
        (CollectiveKind.ALL_REDUCE, 100, "DP"),
    ]


LAYERS = "2\na -1 1 ALLGATHER 10 2 ALLREDUCE 20 3 ALLREDUCE 30 0\nb -1 4 ALLTOALL 40 5 ALLREDUCE 50 6 ALLREDUCE 60 0\n"


@pytest.mark.parametrize(
    ("policy", "sizes"),
    [
        ("DATA", [60, 30]),
        ("MODEL", [10, 40, 50]),
        ("HYBRID_DATA_MODEL", [10, 40, 50, 60, 30]),
        ("HYBRID_MODEL_DATA", [10, 40, 50, 60, 30]),
        ("HYBRID_TRANSFORMER", [10, 40, 50, 60, 20, 30]),
        ("DISTRIBUTED_INFERENCE", [10, 40]),
        ("MICRO", [30, 60]),
    ],
)
def test_a_policy_has_its_collectives(policy: str, sizes: list[int]) -> None:
    workload = simai_text.parse(f"{policy}\n{LAYERS}".encode(), "w")
    assert [one.size for one in workload.collectives] == sizes
    assert all(earlier < place for place, phase in enumerate(workload) for earlier in phase.after)


def test_the_layer_before_waits_for_what_it_needs_of_the_next() -> None:
    """Model parallel: the gradient to the input is sent beside the weights; both come before the layer before."""
    workload = simai_text.parse(f"MODEL\n{LAYERS}".encode(), "w")
    place = {(type(phase).__name__, phase.name): place for place, phase in enumerate(workload)}
    needs = workload.phases[place["Compute", "a to input"]].after
    assert set(needs) == {place["Compute", "b weights"], place["Collective", "b to input"]}
    assert workload.phases[place["Compute", "b weights"]].after == (place["Compute", "b to input"],)


def test_a_collective_of_no_bytes_is_none() -> None:
    layer = "a -1 1 ALLREDUCE 0 1 NONE 9 1 NONE 0 1\n"
    assert simai_text.parse(f"HYBRID_TRANSFORMER\n1\n{layer}".encode(), "w").collectives == ()


GOOD = "a -1 1 NONE 0 1 NONE 0 1 NONE 0 1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"w: found no two lines"),
        ("DATA\n", r"w: found no two lines"),
        (f"DATE\n1\n{GOOD}", r"w:1: column 1: found policy 'DATE'; allowed: DATA, MODEL"),
        (f"HYBRID_DLRM 3\n1\n{GOOD}", r"w:1: column 1: found policy HYBRID_DLRM; allowed: .* more than the file says"),
        (f"HYBRID_CUSTOMIZED\n1\n{GOOD}", r"found policy HYBRID_CUSTOMIZED"),
        (f"DATA ep 3\n1\n{GOOD}", r"w:1: column 6: found 'ep'; allowed: a key with ':'"),
        (f"DATA ep:\n1\n{GOOD}", r"w:1: column 9: found no number after 'ep'"),
        (f"DATA ep: x\n1\n{GOOD}", r"w:1: column 10: ep is 'x'"),
        (f"DATA ep: 1 ep: 2\n1\n{GOOD}", r"w:1: column 12: found 'ep' a second time"),
        (f"DATA checkpoints: 3 0\n1\n{GOOD}", r"w:1: column 19: found 1 words after checkpoints; allowed: 3 layers"),
        (f"DATA checkpoints: 1 1\n1\n{GOOD}", r"w:1: column 21: found layer 1; allowed: 0 to 0"),
        (f"DATA checkpoint_initiates: 1 0\n1\n{GOOD}", r"w:1: column 30: layer 0 has no checkpoint to start from"),
        (f"DATA\n1 2\n{GOOD}", r"w:2: column 3: found 2 words; allowed: 1: layers"),
        (f"DATA\n0\n{GOOD}", r"w:2: column 1: the number of layers is '0'; allowed: .* from 1 to 32768"),
        (f"DATA\n2\n{GOOD}", r"w:2: column 1: found 1 layers; allowed: 2"),
        (f"DATA\n1\n{GOOD}{GOOD}", r"w:4: column 1: found layer 2; allowed: 1, as line 2 says"),
        (f"DATA\n1\n{GOOD[:-3]}\n", r"w:3: column 32: found 11 words; allowed: 12: name dep fwd_time"),
        (f"DATA\n1\n{GOOD.replace('a -1 1', 'a -1 1.5')}", r"w:3: column 6: fwd_time is '1.5'"),
        (f"DATA\n1\n{GOOD.replace('a -1', 'a -2')}", r"w:3: column 3: dep is '-2'"),
        (f"DATA\n1\n{GOOD.replace('a -1 1', 'a -1 999999999999999999')}", r"w:3: column 6: fwd_time is 1e\+09 s"),
        (f"DATA\n1\n{GOOD.replace('NONE', 'ALLREDUCEALLTOALL', 1)}", r"column 8: fwd_comm is 'ALLREDUCEALLTOALL'"),
        (
            f"DATA\n1\n{GOOD.replace('NONE', 'ALLREDUCE_TP', 1)}",
            r"fwd_comm is 'ALLREDUCE_TP'; allowed: .* _EP or _DP_EP",
        ),
        (f"DATA\n1\n{GOOD.replace('NONE', 'NONE_EP', 1)}", r"fwd_comm is 'NONE_EP'"),
        (f"DATA\n1\n{GOOD.replace('NONE 0', 'NONE -1', 1)}", r"column 13: fwd_bytes is '-1'"),
    ],
)
def test_what_is_no_workload_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        simai_text.parse(text.encode(), "w")


def test_recomputing_does_not_grow_past_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 100 layers would do all before it again: 5000 phases, and with more layers as the square."""
    monkeypatch.setattr(simai_text, "MOST_SENDS", 1000)
    layers = " ".join(str(layer) for layer in range(100))
    text = f"HYBRID_TRANSFORMER_FWD_IN_BCKWD checkpoints: 1 0 checkpoint_initiates: 100 {layers}\n100\n"
    with pytest.raises(SpecError, match="w:1: column 1: found more than 1000 phases"):
        simai_text.parse((text + GOOD * 100).encode(), "w")
