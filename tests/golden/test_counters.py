"""Every table of `railbed counters`, and of `railbed profile show`, against its file in counters/.

RAILBED_UPDATE_GOLDEN=1 writes them anew: then read them, as a user of SONiC would.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labs.counter_views import VIEWS, Shown, show_counters
from labs.dataplane.abi import PortProfile, PortState
from labs.dataplane.counters import AsicCounters, EcmpCounters, decode
from labs.dataplane.ecmp_choices import played
from labs.dataplane.load import load_profile, profile_of
from labs.dataplane.plan import plan
from labs.profile_views import show_applied, show_profile
from topologies.builders import leaf_spine
from topologies.ecmp import EcmpMode
from topologies.units import GBIT
from topologies.yaml_source import parse

ENGINES = """
base: roce_default
SWITCH_HASH: {GLOBAL: {ecmp_hash: "SRC_IP,DST_IP", ecmp_hash_algorithm: CRC_XOR}}
SWITCH_TABLE: {tier:spine: {ecmp_hash_seed: 25, ecmp_hash_offset: 3}}
RAILBED_ECMP:
  tier:leaf|3: {mode: roce}
  tier:leaf|4: {mode: spray, by: round_robin}
  tier:leaf|5: {mode: adaptive, by: packet}
  tier:leaf|6: {mode: pinned, by: rail}
  tier:spine: {mode: resilient, idle_ms: 50}
  spine2|3: {mode: adaptive, marked: true, gap_us: 50}
"""
FOLDER = Path(__file__).parent / "counters"
PROFILE = load_profile("roce_default")
PLAN = plan(PROFILE, leaf_spine(spines=1, leaves=2, hosts_per_leaf=1))
Capture = pytest.CaptureFixture[str]


def changed(counters: AsicCounters, what: str, *key: object, **to: object) -> AsicCounters:
    record: Any = getattr(counters, what)(*key)
    records: dict[str, Any] = {
        f"{what}s": tuple(replace(one, **to) if one is record else one for one in getattr(counters, f"{what}s"))
    }
    return replace(counters, **records)


def busy() -> AsicCounters:
    """A leaf that had an incast: marks, drops, pauses, a storm; and its host, which was paused."""
    states = (PortState * (len(PLAN.ports) + 1))()
    for port in PLAN.ports:
        states[port.number].profile = port.profile
    seen = decode("a-lab", PLAN, {"ports": bytes(states), "profiles": b"".join(PLAN.profiles)})
    assert PortProfile.from_buffer_copy(PLAN.profiles[0]).pfc_enable
    sent = {"sent_packets": 1_032_731, "sent_bytes": 1_549_096_500, "marked_packets": 5_170, "marked_bytes": 7_755_000}
    seen = changed(seen, "queue", "host1", "eth1", 3, own_packets=1_032_731, **sent)
    dropped = {"wred_packets": 40, "wred_bytes": 60_000, "tail_packets": 3, "tail_bytes": 4_500}
    more = {"own_packets": 9, "watermark_bytes": 905_408}
    seen = changed(seen, "queue", "leaf1", "eth1", 1, sent_packets=900, sent_bytes=90_000, **dropped, **more)
    admitted = {"packets": 891, "bytes": 80_000, "dropped_packets": 7, "dropped_bytes": 10_500}
    marks = {"shared_watermark_bytes": 886_976, "headroom_watermark_bytes": 21_000}
    seen = changed(seen, "group", "leaf1", "eth2", 3, **admitted, **marks)
    seen = changed(seen, "queue", "leaf1", "eth1", 3, ingress_packets=7, ingress_bytes=10_500, storms_detected=1)
    seen = changed(seen, "port", "leaf1", "eth2", pfc_tx=(0, 0, 0, 24, 0, 0, 0, 0), pfc_xon_tx=(0, 0, 0, 9, 0, 0, 0, 0))
    seen = changed(
        seen, "port", "host1", "eth1", pfc_rx=(0, 0, 0, 24, 0, 0, 0, 0), paused_ns=(0, 0, 0, 1_234_567_890, 0, 0, 0, 0)
    )
    seen = changed(seen, "port", "leaf1", "eth2", wire_lost=2)
    room = {"headroom_size_bytes": 25 << 20, "headroom_watermark_bytes": 21_000}
    seen = changed(seen, "pool", "leaf1", "ingress_pool", watermark_bytes=927_396, **room)
    chosen = (
        EcmpCounters("leaf1", "eth1", EcmpMode.SWITCH_HASH, 1_204, 1_300_320),
        EcmpCounters("leaf1", "eth1", EcmpMode.ADAPTIVE, 500_100, 750_150_000, 812, 405),
        EcmpCounters("leaf1", "eth2", EcmpMode.RESILIENT, 12, 18_000, moved=128),
        EcmpCounters("leaf2", "eth1", EcmpMode.SPRAY, 7, 700),
    )
    seen = replace(seen, ecmp=chosen, engine=True)
    asicd = replace(seen.asicd, pid=7, fifo=True, pauses=20, refreshes=4, resumes=9, reaction_count=20)
    buckets = (0, 0, 15, 4, 1, *(0,) * 508)
    return replace(seen, asicd=replace(asicd, reactions=buckets, reaction_max_ns=19_500, cpu_ns=1_500_000_000))


def judged(name: str, text: str) -> None:
    said = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    golden = FOLDER / f"{name}.txt"
    if os.environ.get("RAILBED_UPDATE_GOLDEN") == "1":
        golden.write_text(said, encoding="utf-8")
    assert said == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("what", VIEWS)
def test_table(what: str, capsys: Capture) -> None:
    assert show_counters(Shown(busy(), busy(), node="leaf1"), what, "table") == 0
    said = capsys.readouterr()
    judged(what, said.out + said.err)


def test_table_without_zeros(capsys: Capture) -> None:
    assert show_counters(Shown(busy(), busy(), nonzero=True), "pfc", "table") == 0
    judged("pfc_nonzero", capsys.readouterr().out)


def test_books_that_do_not_balance(capsys: Capture) -> None:
    wrong = changed(busy(), "queue", "host1", "eth1", 3, own_packets=1_032_732, sent_packets=1_032_731)
    assert show_counters(Shown(wrong, wrong, node="host1"), "port", "table") == 1
    said = capsys.readouterr()
    judged("port_false", said.out + said.err)


def test_members_of_no_port_and_json(capsys: Capture) -> None:
    outside = replace(busy(), ecmp=(EcmpCounters("", "", EcmpMode.SPRAY, 3, 180), *busy().ecmp))
    assert show_counters(Shown(outside, outside), "ecmp", "table") == 0
    assert show_counters(Shown(outside, outside, node="leaf1"), "ecmp", "json") == 0
    said = capsys.readouterr()
    judged("ecmp_more", said.out + said.err)


def test_a_lab_without_hash_engines(capsys: Capture) -> None:
    off = replace(busy(), ecmp=(), engine=False)
    assert show_counters(Shown(off, off), "ecmp", "table") == 0
    said = capsys.readouterr()
    judged("ecmp_off", said.out + said.err)


def test_profile(capsys: Capture) -> None:
    show_profile(PROFILE, [GBIT], "table")
    judged("profile", capsys.readouterr().out)


@pytest.mark.parametrize("form", ["table", "json"])
def test_profile_with_the_hash_engine(form: str, capsys: Capture) -> None:
    show_profile(load_profile("adaptive"), [], form)
    said = capsys.readouterr().out
    judged(f"profile_adaptive_{form}", said[said.index("Equal-cost" if form == "table" else ' "ecmp"') :])


def test_profile_of_a_lab_with_the_hash_engine(capsys: Capture) -> None:
    mine = profile_of(parse(ENGINES.encode(), "mine.yaml"), name="mine")
    planned = plan(mine, leaf_spine(spines=2, leaves=8, hosts_per_leaf=1), seed=1)
    show_profile(mine, [], "table", lab="a-lab", choices=played(planned))
    said = capsys.readouterr().out
    judged("profile_engines", said[said.index("Equal-cost") :])


def test_profile_that_was_applied(capsys: Capture) -> None:
    show_applied("a-lab", PROFILE, load_profile("ecn_only"), 6, "table", dry_run=True)
    said = capsys.readouterr()
    judged("profile_applied", said.out + said.err)
