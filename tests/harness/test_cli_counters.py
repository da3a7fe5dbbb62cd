"""`railbed counters` and `railbed profile` on the fake backend, whose lab is given a soft ASIC that is played."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from labs import attaching
from labs.cli import run
from labs.dataplane.counters import AsicCounters, EcmpCounters, decode
from labs.dataplane.load import PROFILES, load_profile
from labs.dataplane.plan import LabPlan, plan
from labs.dataplane.profile import Profile
from labs.errors import NotReady
from labs.spec import RenderedLab
from topologies.ecmp import EcmpMode

Capture = pytest.CaptureFixture[str]
PROFILE = load_profile("roce_default")


@dataclass
class PlayedAsic:
    """A soft ASIC that has counted what a test says."""

    plan: LabPlan
    profile: Profile = PROFILE
    now: AsicCounters = field(init=False)
    gone: bool = False

    def __post_init__(self) -> None:
        self.now = decode("clos-frr", self.plan, {})

    def counters(self) -> AsicCounters:
        if self.gone:
            raise NotReady("the soft ASIC is not attached: there is no map /run/railbed/clos-frr/maps/queues")
        return self.now

    def status(self) -> dict[str, str]:
        return {"hook": "tcx", "fifo": "1"}

    def count(self, what: str, *key: object, **by: int) -> None:
        record: Any = getattr(self.now, what)(*key)
        new = replace(record, **{name: getattr(record, name) + more for name, more in by.items()})
        records: dict[str, Any] = {
            f"{what}s": tuple(new if one is record else one for one in getattr(self.now, f"{what}s"))
        }
        self.now = replace(self.now, **records)

    def send(self, packets: int, *, arrive: int | None = None) -> None:
        """Host1 sends so many; so many get away."""
        sent = packets if arrive is None else arrive
        self.count("queue", "host1", "eth1", 3, own_packets=packets, sent_packets=sent, sent_bytes=1000 * sent)


@pytest.fixture
def asic(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> PlayedAsic:
    """A lab that is up, and its soft ASIC."""
    made: list[PlayedAsic] = []

    def attached(lab: RenderedLab, run_dir: Path, journal: object) -> PlayedAsic:
        del run_dir, journal
        if not made:
            made.append(PlayedAsic(plan(PROFILE, lab.fabric)))
        return made[0]

    monkeypatch.setattr(attaching, "attached", attached)
    assert run(["up", "clos_frr", "--backend", "fake", "--seed", "1", "--profile", "none"]) == 0
    assert run(["status"]) == 0
    capsys.readouterr()
    return made[0]


def answer(capsys: Capture, *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run([*argv, "--format", "json"]) == code
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == 1
    return said


def refused(capsys: Capture, *argv: str) -> str:
    capsys.readouterr()
    assert run(list(argv)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def row(said: Any, part: str, **key: object) -> dict[str, Any]:
    found = [one for one in said[part] if all(one[name] == value for name, value in key.items())]
    assert len(found) == 1
    return dict(found[0])


def test_json_of_every_view(asic: PlayedAsic, capsys: Capture) -> None:
    asic.send(50)
    asic.count("queue", "host1", "eth1", 3, marked_packets=8)
    asic.count("group", "leaf1", "eth3", 3, shared_watermark_bytes=4096)
    queue = row(answer(capsys, "counters", "queue"), "queues", node="host1", port="eth1", queue=3)
    assert (queue["SAI_QUEUE_STAT_PACKETS"], queue["SAI_QUEUE_STAT_BYTES"]) == (50, 50_000)
    ecn = row(answer(capsys, "counters", "ecn"), "queues", node="host1", port="eth1", queue=3)
    assert ecn.keys() == {
        *("node", "port", "queue"),
        *(f"SAI_QUEUE_STAT_WRED_{what}_{unit}" for what in ("DROPPED", "ECN_MARKED") for unit in ("PACKETS", "BYTES")),
    }
    assert ecn["SAI_QUEUE_STAT_WRED_ECN_MARKED_PACKETS"] == 8
    marks = answer(capsys, "counters", "watermark")
    group = row(marks, "groups", node="leaf1", port="eth3", group=3)
    assert group["SAI_INGRESS_PRIORITY_GROUP_STAT_SHARED_WATERMARK_BYTES"] == 4096
    assert row(marks, "pools", node="leaf1", pool="ingress_pool")["SAI_BUFFER_POOL_STAT_WATERMARK_BYTES"] == 0
    pfc = row(answer(capsys, "counters", "pfc"), "ports", node="host1")
    assert pfc["SAI_PORT_STAT_PFC_3_RX_PKTS"] == 0
    assert len(pfc) == 2 + 5 * 8
    port = answer(capsys, "counters", "port")
    assert row(port, "ports", node="host1")["tx"]["came"] == 50
    assert row(port, "ports", node="leaf1", port="eth3")["rx"]["arrived"] == 50
    assert port["conservation"]["held"]
    assert port["lost_in_kernel"] == {"veth": 0, "purged": 0, "qdisc": 0, "softnet": 0}
    assert port["asicd"]["pauses"] == 0


def test_what_the_hash_engine_chose(asic: PlayedAsic, capsys: Capture) -> None:
    assert answer(capsys, "counters", "ecmp")["ecmp"] == []
    assert run(["counters", "ecmp"]) == 0
    assert "no switch of this lab has the hash engine on" in capsys.readouterr().err
    assert run(["counters", "ecmp", "--clear"]) == 0
    asic.now = replace(asic.now, ecmp=(EcmpCounters("leaf1", "eth1", EcmpMode.ROCE, 5, 500),), engine=True)
    assert run(["counters", "ecmp", "--clear"]) == 0
    asic.now = replace(asic.now, ecmp=(EcmpCounters("leaf1", "eth1", EcmpMode.ROCE, 7, 700),))
    chosen = {"node": "leaf1", "port": "eth1", "mode": "roce"}
    assert answer(capsys, "counters", "ecmp")["ecmp"] == [
        {**chosen, "RAILBED_ECMP_STAT_PACKETS": 2, "RAILBED_ECMP_STAT_BYTES": 200}
    ]
    assert answer(capsys, "counters", "ecmp", "leaf2")["ecmp"] == []
    assert row(answer(capsys, "counters", "ecmp", "--raw"), "ecmp", **chosen)["RAILBED_ECMP_STAT_PACKETS"] == 7


def test_one_node(asic: PlayedAsic, capsys: Capture) -> None:
    assert asic.plan.ports
    said = answer(capsys, "counters", "queue", "leaf1")
    assert {one["node"] for one in said["queues"]} == {"leaf1"}
    assert "leaf9" in refused(capsys, "counters", "queue", "leaf9")


def test_what_was_cleared_is_taken_off(asic: PlayedAsic, capsys: Capture) -> None:
    def sent(*more: str) -> tuple[int, str | None]:
        said = answer(capsys, "counters", "queue", *more)
        found = row(said, "queues", node="host1", port="eth1", queue=3)
        return int(found["SAI_QUEUE_STAT_PACKETS"]), said["since"]

    asic.send(50)
    assert run(["counters", "queue", "--clear", "--dry-run"]) == 0
    assert sent() == (50, None)
    assert run(["counters", "queue", "--clear"]) == 0
    assert "queue counters cleared" in capsys.readouterr().err
    asic.send(7)
    assert run(["counters", "queue", "host1", "--nonzero"]) == 0
    said = capsys.readouterr()
    assert "Last cached time was " in said.err
    assert said.out.split("\n")[1].split() == ["host1:eth1", "UC3", "7", "7,000", "0", "0"]
    count, since = sent()
    assert count == 7
    assert since
    assert sent("--raw") == (57, None)
    assert answer(capsys, "counters", "ecn")["since"] is None, "each view is cleared by itself"


def test_an_asic_that_was_started_anew_counts_from_its_start(asic: PlayedAsic, capsys: Capture) -> None:
    asic.send(50)
    assert run(["counters", "queue", "--clear"]) == 0
    asic.now = replace(asic.now, asicd=replace(asic.now.asicd, started_ns=77))
    capsys.readouterr()
    assert run(["counters", "queue"]) == 0
    assert "started anew since the counters were cleared" in capsys.readouterr().err


def test_books_since_they_were_cleared(asic: PlayedAsic, capsys: Capture) -> None:
    asic.send(50, arrive=40)
    assert run(["counters", "port"]) == 1
    assert "host sends: host1:eth1 queue 3: 50 - 40 = 10, allowed 0" in capsys.readouterr().err
    assert run(["counters", "port", "--clear"]) == 0
    asic.send(50)
    assert answer(capsys, "counters", "port")["conservation"]["held"]
    assert not answer(capsys, "counters", "port", "--raw", code=1)["conservation"]["held"]


def test_books_that_nobody_can_judge(asic: PlayedAsic, capsys: Capture) -> None:
    asic.send(50, arrive=40)
    asic.now = replace(asic.now, moving=True)
    said = answer(capsys, "counters", "port", code=3)
    assert not said["conservation"]["valid"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("counters", "queue", "leaf1", "--clear"), "--clear of leaf1 alone; allowed: no NODE"),
        (("counters", "watermark", "--clear"), "--clear of watermarks; allowed: pfc, queue, ecn, port"),
        (("counters", "nonsense"), "is not one of"),
        (("profile", "show", "--rate", "quick"), "--rate quick; allowed: bits a second"),
        (("profile", "show", "roce_defalt"), "did you mean roce_default?"),
    ],
)
def test_refusals(asic: PlayedAsic, capsys: Capture, argv: tuple[str, ...], words: str) -> None:
    assert asic.plan.ports
    assert words in refused(capsys, *argv)


def test_an_asic_that_is_gone(asic: PlayedAsic, capsys: Capture) -> None:
    asic.gone = True
    assert "the soft ASIC is not attached" in refused(capsys, "counters", "queue")


@pytest.mark.parametrize("argv", [("counters", "queue"), ("profile", "show")])
def test_a_lab_without_an_asic(capsys: Capture, argv: tuple[str, ...]) -> None:
    assert run(["up", "clos_frr", "--backend", "fake", "--seed", "1", "--profile", "none"]) == 0
    assert "capability soft-asic is missing: lab clos-frr runs without it" in refused(capsys, *argv)


def test_profile_of_the_lab_and_by_name(asic: PlayedAsic, capsys: Capture) -> None:
    assert asic.profile is PROFILE
    said = answer(capsys, "profile", "show")
    assert (said["profile"], said["lab"]) == ("roce_default", "clos-frr")
    assert said["config_db"]["WRED_PROFILE"]["AZURE_LOSSLESS"]["ecn"] == "ecn_all"
    assert [one["rate_bps"] for one in said["scaling"]] == [10**9]
    assert [one["mode"] for one in said["ecmp"]] == ["kernel"]
    assert set(said["ecmp"][0]["switches"]) == {node.name for node in asic.plan.nodes if node.ecmp}
    other = answer(capsys, "profile", "show", "ecn_only", "--rate", "100Mbit", "--rate", "1G")
    assert (other["profile"], other["lab"]) == ("ecn_only", None)
    assert [one["rate_bps"] for one in other["scaling"]] == [10**8, 10**9]


def test_schema_of_profiles(capsys: Capture) -> None:
    assert run(["schema", "profile"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    files = list(PROFILES.glob("*.yaml"))
    assert len(files) >= 4
    for file in files:
        good = yaml.safe_load(file.read_text())
        assert [error.message for error in validator.iter_errors(good)] == [], file.name
        assert not validator.is_valid({**good, "nonsense": 1})
