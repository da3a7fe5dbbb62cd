from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from labs.dataplane.intent import (
    BufferPool,
    BufferProfile,
    Direction,
    PortIntent,
    Scheduler,
    SchedulerKind,
    Watchdog,
    WatchdogAction,
    Wred,
)
from labs.dataplane.load import PROFILES, catalog, load_profile, profile_of, profile_schema
from labs.dataplane.profile import Profile
from labs.dataplane.selectors import best, samples
from topologies.errors import SpecError
from topologies.units import GBIT, KIB
from topologies.yaml_source import parse

SMALL = """
DSCP_TO_TC_MAP: {RDMA: {"26": "3", "48": 6}}
TC_TO_QUEUE_MAP: {RDMA: {"3": "3", "6": "6"}}
TC_TO_PRIORITY_GROUP_MAP: {RDMA: {"3": "3"}}
PORT_QOS_MAP:
  "*": {dscp_to_tc_map: RDMA, tc_to_queue_map: RDMA, tc_to_pg_map: RDMA, pfc_enable: 3, pfcwd_sw_enable: "3"}
  leaf1:eth1: {dscp_to_tc_map: RDMA}
WRED_PROFILE:
  ecn: {ecn: ecn_green, green_min_threshold: 1000, green_max_threshold: "2000", green_drop_probability: "5"}
  off: {green_min_threshold: 1000, green_max_threshold: 2000}
SCHEDULER: {cnp: {type: STRICT}, rdma: {type: DWRR, weight: "60", cir: 0, pir: 12500000}}
QUEUE:
  "*|3-4": {scheduler: rdma, wred_profile: ecn}
  "*|4": {wred_profile: off}
  eth1|3: {scheduler: cnp}
  leaf1:*|3: {scheduler: rdma}
  leaf1:eth2|3: {}
BUFFER_POOL:
  ing: {type: ingress, mode: dynamic, size: "1000000"}
BUFFER_PROFILE:
  ll: {pool: ing, size: 30000, dynamic_th: "0", xon: 9000, xoff: 20000, xon_offset: 1000}
  lossy: {pool: ing, size: 0, static_th: 5000}
BUFFER_PG:
  "*|3": {profile: ll}
  leaf1:eth1|3: {profile: lossy}
PFC_WD: {eth2: {detection_time: 300, restoration_time: "400"}}
"""

SCHEMA = jsonschema.Draft202012Validator(profile_schema())


def test_the_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(profile_schema())
    assert SCHEMA.is_valid({"base": "lossy", "QUEUE": {"*|5": None, "*|3": {"scheduler": "x"}}})
    for wrong in ("QUEUE: {'*|9': {}}", "SCHEDULER: {x: {weight: 0}}", "WRED: {}", "base: roce"):
        assert not SCHEMA.is_valid(yaml.safe_load(wrong)), wrong


def profile(text: str, name: str = "mine") -> Profile:
    return profile_of(parse(text.encode(), f"{name}.yaml"), name=name)


@pytest.fixture(scope="module")
def small() -> Profile:
    return profile(SMALL)


def port(ref: str) -> PortIntent:
    return load_profile(ref).port("leaf1", "eth1")


def test_the_catalog() -> None:
    assert catalog() == (
        *("adaptive", "ecn_only", "lossy", "pfc_only"),
        *("roce_default", "roce_entropy", "switch_hash"),
    )
    with pytest.raises(SpecError, match=r"no profile called 'roce'"):
        load_profile("roce")


@pytest.mark.parametrize("name", catalog())
def test_shipped_profiles_load_and_fit_the_schema(name: str) -> None:
    text = (PROFILES / f"{name}.yaml").read_text()
    SCHEMA.validate(yaml.safe_load(text))
    shipped = load_profile(name)
    assert (shipped.name, shipped.remarks, shipped.real_rate_bps) == (name, (), 400 * GBIT)
    SCHEMA.validate(shipped.tables)


@pytest.mark.parametrize("name", catalog())
def test_tables_make_the_same_profile_again(name: str) -> None:
    shipped = load_profile(name)
    again = profile(json.dumps(shipped.tables), name)
    assert again.tables == shipped.tables
    assert again.port("leaf1", "eth1") == shipped.port("leaf1", "eth1")
    assert all(
        isinstance(text, str) for rows in shipped.tables.values() for row in rows.values() for text in row.values()
    )


def test_how_the_shipped_profiles_differ() -> None:
    def traits(name: str) -> tuple[bool, bool, bool]:
        intent = port(name)
        marks = all(intent.queues[index].wred for index in (3, 4))
        return bool(intent.pfc_enable), marks, intent.watchdog is not None

    # PFC, ECN, watchdog
    assert traits("roce_default") == (True, True, True)
    assert traits("pfc_only") == (True, False, True)
    assert traits("ecn_only") == (False, True, False)
    assert traits("lossy") == (False, False, False)
    assert not any(pg.lossless for name in ("ecn_only", "lossy") for pg in port(name).pgs)


def test_roce_default_classifies_as_sonic_does() -> None:
    intent = port("roce_default")
    apart = {3: 3, 4: 4, 5: 2, 8: 0, 26: 3, 46: 5, 48: 6}
    assert [intent.queue_of_dscp(dscp) for dscp in range(64)] == [apart.get(dscp, 1) for dscp in range(64)]
    assert intent.tc_to_pg[:8] == (0, 0, 0, 3, 4, 0, 0, 7)
    assert intent.pfc_enable == intent.paused_queues == intent.watched_queues == frozenset({3, 4})
    assert intent.watchdog == Watchdog(WatchdogAction.DROP, 200, 200, 200)
    strict = [queue.index for queue in intent.queues if queue.scheduler.kind is SchedulerKind.STRICT]
    assert strict == [6, 7]


def test_roce_default_marks_long_before_it_pauses() -> None:
    """A queue that one sender fills: certain marking at 400 KiB, XOFF at 12 MiB / 9 and what is reserved.

    With 8 senders paused at once each stops at 12 MiB / 16: still above it.
    """
    intent = port("roce_default")
    wred, lossless = intent.queues[3].wred, intent.pgs[3].buffer
    assert wred is not None
    assert lossless is not None
    assert wred == Wred(100 * KIB, 400 * KIB, 20, drop=True, ecn=True)
    assert lossless.most_bytes == 12 * 1024 * KIB // 9 + 18 * KIB
    assert lossless.most_bytes > 3 * wred.max_bytes
    assert lossless.pool.size // 16 > wred.max_bytes
    assert lossless.pool.xoff == 64 * lossless.xoff, "one class of 64 ports at once"
    egress = intent.queues[3].buffer
    assert egress is not None
    assert egress.most_bytes == lossless.pool.size + lossless.pool.xoff, "egress has room for all that ingress admits"


def test_numbers_as_text_and_plain(small: Profile) -> None:
    assert small.port("leaf9", "eth9").queues[3].wred == Wred(1000, 2000, 5, drop=False, ecn=True)
    assert small.port("leaf9", "eth9").pfc_enable == {3}
    assert small.tables["PORT_QOS_MAP"]["*"]["pfc_enable"] == "3"
    assert small.tables["WRED_PROFILE"]["ecn"]["green_min_threshold"] == "1000"


def test_what_maps_do_not_list(small: Profile) -> None:
    intent = small.port("leaf9", "eth9")
    assert intent.dscp_to_tc == tuple({26: 3, 48: 6}.get(dscp, 0) for dscp in range(64))
    assert intent.tc_to_queue == tuple({3: 3, 6: 6}.get(tc, 0) for tc in range(16))
    assert intent.pfc_to_queue == intent.pfc_to_pg == tuple(range(8))
    bare = profile("{}").port("leaf1", "eth1")
    assert set(bare.dscp_to_tc) == set(bare.tc_to_queue) == set(bare.tc_to_pg) == {0}
    assert bare.queues[7].scheduler == Scheduler(SchedulerKind.WRR, 1)
    assert (bare.watchdog, bare.buffers, bare.watched_queues) == (None, (), frozenset())


def test_the_more_exact_row_speaks_alone(small: Profile) -> None:
    rdma, cnp = Scheduler(SchedulerKind.DWRR, 60, 12_500_000), Scheduler(SchedulerKind.STRICT)
    assert small.port("leaf9", "eth9").queues[3].scheduler == rdma
    assert small.port("leaf9", "eth1").queues[3].scheduler == cnp, "a port's name beats *"
    assert small.port("leaf9", "eth1").queues[3].wred is None, "rows are not added up"
    assert small.port("leaf1", "eth1").queues[3].scheduler == rdma, "a node's name beats a port's"
    assert small.port("leaf1", "eth2").queues[3].scheduler == Scheduler(), "both beat everything"
    assert small.port("leaf9", "eth9").queues[4].wred is None, "a number beats a range; `off` neither marks nor drops"
    assert small.port("leaf1", "eth1").pfc_enable == frozenset()
    assert not small.port("leaf1", "eth1").pgs[3].lossless


def test_buffers(small: Profile) -> None:
    pool = BufferPool("ing", Direction.INGRESS, "dynamic", 1_000_000)
    lossless = small.buffer("ll")
    assert lossless == BufferProfile("ll", pool, 30000, 0, None, 9000, 20000, 1000)
    # SONiC's size of a lossless profile holds its headroom: 30000 = 10000 guaranteed + 20000.
    assert (lossless.reserved, lossless.headroom_of_its_own, lossless.most_bytes) == (10000, 20000, 510_000)
    assert small.buffer("lossy").most_bytes == 5000
    shared = profile(SMALL.replace('size: "1000000"}', 'size: "1000000", xoff: 40000}')).buffer("ll")
    assert (shared.reserved, shared.headroom_of_its_own) == (30000, 0)


def test_the_watchdog_polls_as_orchagent_does_unless_told(small: Profile) -> None:
    assert small.port("leaf1", "eth2").watchdog == Watchdog(WatchdogAction.DROP, 300, 400, 100)
    assert small.port("leaf1", "eth3").watchdog is None


def test_what_has_no_effect_is_said() -> None:
    said = profile("""
WRED_PROFILE:
  a: {ecn: ecn_yellow_red, yellow_min_threshold: 1, yellow_max_threshold: 2, wred_red_enable: "false"}
SCHEDULER: {s: {type: STRICT, weight: 3}, w: {type: WRR}, d: {type: DWRR}}
CABLE_LENGTH: {AZURE: {eth1: 5m}}
""").remarks
    assert [line.partition(":")[0] for line in said] == [
        "WRED_PROFILE a",
        "WRED_PROFILE a",
        "SCHEDULER s",
        "SCHEDULER w",
        "CABLE_LENGTH",
    ]
    assert "wred_red_enable, yellow_max_threshold, yellow_min_threshold" in said[0]


def test_a_file_beside_the_one_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"base": "lossy", "RAILBED_PFC": {"GLOBAL": {"quanta": "77"}}}')
    mine = load_profile("mine.json", tmp_path)
    assert (mine.name, mine.quanta, load_profile("lossy").quanta) == ("mine", 77, None)


def test_a_base_is_changed_field_by_field() -> None:
    changed = profile("""
base: roce_default
DSCP_TO_TC_MAP: {AZURE: {"26": 4}}
WRED_PROFILE: {AZURE_LOSSLESS: {green_drop_probability: 5}}
RAILBED_SCALE: {GLOBAL: {real_rate: 100Gbit}}
QUEUE: {"*|5": ~}
""")
    intent, before = changed.port("leaf1", "eth1"), port("roce_default")
    assert (intent.queue_of_dscp(26), intent.queue_of_dscp(3)) == (4, 3)
    assert intent.queues[3].wred == Wred(100 * KIB, 400 * KIB, 5, drop=True, ecn=True)
    assert intent.queues[5].scheduler == Scheduler()
    assert intent.pgs == before.pgs
    assert changed.real_rate_bps == 100 * GBIT
    assert changed.tables["RAILBED_SCALE"] == {"GLOBAL": {"real_rate": "100Gbit"}}


def test_every_combination_of_rows_has_a_sample() -> None:
    keys = ("*|3", "eth1|3", "leaf1:*|3", "leaf2:eth2|3")
    found = samples(keys)
    for node in ("leaf1", "leaf2", "leaf3"):
        for name in ("eth1", "eth2", "eth3"):
            assert best(keys, node, name, 3) in {best(keys, *sample, 3) for sample in found}
    assert ("leaf1", "eth1") in found


def test_a_rate_that_is_no_whole_gigabit() -> None:
    said = profile("RAILBED_SCALE: {GLOBAL: {real_rate: 1500Mbit}}")
    assert said.tables == {"RAILBED_SCALE": {"GLOBAL": {"real_rate": "1500Mbit"}}}
