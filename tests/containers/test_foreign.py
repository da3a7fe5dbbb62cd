"""FOREIGN-1: labs that somebody else wrote for containerlab come up, are judged, adopted and let go.

    spine1   spine2           theirs.clab.yml: numbered /30 links, FRR's files by binds, hosts by exec lines, one AS
       │ \\   / │              number for the spines, hash policy 1 with the kernel's own random seed
     leaf1   leaf2
     /   \\   /   \\            ospf.clab.yml: PC1 ─ r1 ─ r2 ─ PC2, OSPF, which the oracle does not predict, and
    PC1 PC2 PC3 PC4           black_box.1, a node said to be nothing we know

Labs of tests that call commands stand in an index of the test's own.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from labs import containerlab, engine
from labs.errors import CapabilityMissing
from labs.lab import Lab
from labs.pytest_plugin import Faults
from labs.testing import (
    MBIT,
    SECOND,
    Fabric,
    FiveTuple,
    Tier,
    TrafficPlan,
    Transport,
    no_flow_lost_for_good,
    path_prediction,
    permutation,
    wait_until,
)
from labs.traffic_bridge import LabTraffic
from topologies import addressing
from topologies.errors import Unpredictable
from topologies.routing import equal_cost_paths, next_hops
from traffic.engines.packet_burst import Burst, send_bursts

FOLDER = Path(__file__).parent / "foreign"
THEIRS, OSPF = FOLDER / "theirs.clab.yml", FOLDER / "ospf.clab.yml"
RAILBED = Path(sys.executable).with_name("railbed")
ROUTES_WITHIN = 10 * SECOND
# Their sessions try again every 2 s.
BACK_WITHIN = 20 * SECOND
LASTS = 6.0 * SECOND
PACKETS, BACKGROUND = 300, 100
UP_WITHIN = 120.0
# It looks every 5 s, and tries to connect twice before it starts a daemon.
STARTED_BY_WATCHFRR_S = 15.0


@pytest.mark.lab(str(THEIRS))
def test_its_design_is_read(lab: Lab) -> None:
    """Tiers, addresses, AS numbers and sessions are those of their files; kinds are recognised."""
    assert {node.name: node.tier for node in lab.fabric.nodes} == {
        **dict.fromkeys(("PC1", "PC2", "PC3", "PC4"), Tier.HOST),
        **dict.fromkeys(("leaf1", "leaf2"), Tier.LEAF),
        **dict.fromkeys(("spine1", "spine2"), Tier.SPINE),
    }
    assert {node.name: lab.node(node).kind for node in lab.fabric.nodes}["leaf1"] == "frr"
    assert {lab.node(node).kind for node in lab.fabric.hosts} == {"host"}
    assert [lab.fabric.node(name).asn for name in ("leaf1", "spine2", "PC1")] == [65101, 65001, None]
    assert addressing.host_address(lab.fabric, "PC4") == ip_address("192.168.2.138")
    assert str(addressing.loopback(lab.fabric, lab.fabric.node("spine1"))) == "10.255.0.1"
    assert lab.fabric.session_ends == 8
    assert lab.converged


@pytest.mark.lab(str(THEIRS))
def test_every_flow_takes_the_predicted_path(lab: Lab) -> None:
    """16 flows from PC1 to PC3, one at a time: the counters of leaf1's uplinks show each on the port that was named.

    Sockets are not connected: a connected one's own hash crosses a veth, and hash policy 1 obeys it. All on one
    uplink by chance has probability 2⁻¹⁵ = 3e-5: then the test would prove little.
    """
    predicted, observed = {}, {}
    for turn in range(16):
        ends = [str(addressing.host_address(lab.fabric, host)) for host in ("PC1", "PC3")]
        flow = FiveTuple(ends[0], ends[1], Transport.UDP, 20_000 + 97 * turn, 4791)
        [path] = lab.paths([flow], ["PC1"])
        assert path.end == "PC3"
        predicted[flow] = path.ports[1:2]
        before = lab.counters()
        assert send_bursts([Burst("PC1", "PC3", flow, PACKETS)], lab.nodes, connected=False).complete
        after = lab.counters()
        uplinks = [("leaf1", link.end("leaf1").name) for link in lab.fabric.uplinks("leaf1")]
        sent = {key: after[key].tx_packets - before[key].tx_packets for key in uplinks}
        observed[flow] = tuple(f"{node}:{port}" for (node, port), count in sent.items() if count >= PACKETS)
        assert all(count < BACKGROUND or count >= PACKETS for count in sent.values())
    assert len(set(predicted.values())) == 2
    assert path_prediction(predicted, observed)
    turned = {flow: tuple("leaf1:eth2" if port == "leaf1:eth1" else "leaf1:eth1" for port in ports)
              for flow, ports in predicted.items()}  # fmt: skip
    assert not path_prediction(turned, observed)


@pytest.mark.lab(str(THEIRS))
def test_flows_survive_a_cut_link(lab: Lab, fabric: Fabric, traffic: LabTraffic, faults: Faults) -> None:
    """The oracle without the link is reached, every flow goes on, and all comes back. Budgets: test_link_failure.py."""
    link = fabric.uplinks("leaf1")[0]
    with traffic.running(elephants(fabric)) as running:
        with faults.link_down(link):
            assert next_hops(fabric.without(link), "leaf1", "PC3") == {"eth2"}
            assert lab.wait_routes_match(fabric.without(link), within=ROUTES_WITHIN)
            report = running.finish(3 * LASTS)
        assert no_flow_lost_for_good(report, final_s=1.0 * SECOND)
    assert lab.wait_routes_match(within=BACK_WITHIN)


def elephants(fabric: Fabric) -> TrafficPlan:
    """Every host sends to the host of the other leaf."""
    return permutation(fabric.hosts, stride=2, duration_s=LASTS, streams=2, rate_bps=8 * MBIT)


@pytest.mark.lab(str(THEIRS))
def test_a_link_quietly_left_down_is_found(lab: Lab, fabric: Fabric, faults: Faults) -> None:
    """Control: routes do not match the whole design while a link is down, and the rows name it."""
    with faults.link_down("leaf2:spine2"):
        assert lab.wait_routes_match(fabric.without("leaf2:spine2"), within=ROUTES_WITHIN)
        verdict = lab.wait_routes_match(within=3 * SECOND)
        assert not verdict
        assert any(row.startswith("spine2: 10.255.0.12/32: absent") for row in verdict.evidence.rows)
        assert not lab.wait_converged(within=3 * SECOND).held
    assert lab.wait_converged(within=BACK_WITHIN)


@pytest.mark.lab(str(THEIRS))
def test_a_node_loses_power_and_comes_back(lab: Lab, fabric: Fabric) -> None:
    """A spine is stopped by containerlab's own means: the others do without it, and it joins again."""
    lab.stop("spine1")
    assert lab.wait_routes_match(fabric.without("spine1"), within=ROUTES_WITHIN)
    lab.start("spine1")
    assert lab.wait_converged(within=60 * SECOND)


@pytest.mark.lab(str(OSPF))
def test_what_the_oracle_cannot_predict(lab: Lab, faults: Faults) -> None:
    """OSPF: convergence is rest, and whatever needs the oracle says why it cannot be had."""
    assert lab.converged is not None
    assert lab.converged.held, str(lab.converged)
    assert "the oracle was not asked: r1 runs OSPF" in lab.converged.evidence.summary
    with pytest.raises(CapabilityMissing, match="oracle is missing: r1 runs OSPF"):
        lab.wait_routes_match()
    with pytest.raises(Unpredictable):
        equal_cost_paths(lab.fabric, "PC1", "PC2")
    assert {str(prefix): set(ports) for prefix, ports in lab.routes("r1").routes.items()} == {
        "192.168.20.0/24": {"eth1"}
    }
    assert lab.path("PC1", "PC2", sport=1, dport=2).ports == ("PC1:eth1", "r1:eth1", "r2:eth2")
    with faults.link_down("r1:r2"):
        assert not lab.wait_converged(within=3 * SECOND).held
    assert lab.wait_converged(within=60 * SECOND)


@pytest.mark.lab(str(OSPF))
def test_a_plain_node_runs_commands(lab: Lab) -> None:
    """A node that we know nothing of: commands run in it, nothing else is asked of it."""
    box = lab.node("black_box.1")
    assert box.kind == "plain"
    assert box.run("hostname").stdout.strip() == "black_box.1"
    assert lab.sessions("black_box.1") == ()
    with pytest.raises(CapabilityMissing, match="no driver for black_box"):
        lab.routes("black_box.1")


@dataclass(frozen=True)
class Desk:
    """A folder with a copy of their files, an index of its own, and a lab of containerlab's that belongs to nobody."""

    cwd: Path
    name: str

    def call(self, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        env = {**os.environ, "RAILBED_STATE_DIR": str(self.cwd / "state"), "CLAB_VERSION_CHECK": "disable", **more}
        return subprocess.run(
            argv, cwd=self.cwd, env=env, capture_output=True, text=True, timeout=UP_WITHIN, check=False
        )

    def railbed(self, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run railbed."""
        return self.call(str(RAILBED), *argv, **more)

    def containerlab(self, verb: str, *more: str) -> None:
        """Run containerlab. Raises AssertionError when it fails."""
        done = self.call(str(containerlab.find().path), verb, "-t", "theirs.clab.yml", *more)
        assert done.returncode == 0, done.stderr

    @property
    def containers(self) -> list[str]:
        """The lab's containers, by name."""
        return sorted(one.name for one in engine.containers({"containerlab": self.name}))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Their file under a name that nobody has; whatever a test leaves of it is removed."""
    name = f"fgn{secrets.token_hex(3)}"
    shutil.copytree(FOLDER, tmp_path / "theirs")
    file = tmp_path / "theirs" / "theirs.clab.yml"
    file.write_text(file.read_text().replace("name: theirs", f"name: {name}"))
    made = Desk(tmp_path / "theirs", name)
    yield made
    made.railbed("reap")
    made.railbed("down", name)
    if made.containers:
        made.containerlab("destroy", "--cleanup")


def traces(desk: Desk) -> list[str]:
    """Whatever of a lab is on the workstation."""
    found = [f"container {name}" for name in desk.containers]
    found += [f"netns {path.name}" for path in Path("/run/netns").glob(f"*{desk.name}*")]
    found += [f"ssh {path}" for path in Path("/etc/ssh/ssh_config.d").glob(f"*{desk.name}*")]
    found += ["hosts" for line in Path("/etc/hosts").read_text().splitlines() if desk.name in line]
    found += ["folder" for path in desk.cwd.glob(f"clab-{desk.name}*")]
    return found


def network_of_theirs() -> bool:
    """Whether the management network that their file implies is there."""
    return "clab" in engine_networks()


def engine_networks() -> set[str]:
    """The names of all networks of the engine."""
    with engine.asking(engine.address()):
        return {one["Name"] for one in engine.client(engine.address()).api.networks()}


def test_up_and_down_leave_nothing(desk: Desk) -> None:
    """Up by the command line, judged, down: not a trace, not in their folder either."""
    before, network = sorted(path.name for path in desk.cwd.iterdir()), network_of_theirs()
    up = desk.railbed("up", "theirs.clab.yml", "-f", "json")
    assert up.returncode == 0, up.stderr
    facts = json.loads(up.stdout)
    assert (facts["state"], facts["bgp"]) == ("ready", {"established": 8, "expected": 8})
    assert desk.railbed("routes", "leaf1").returncode == 0
    assert desk.railbed("up", "theirs.clab.yml").returncode == 0, "up of what is up reports it"
    assert "railbed's own already" in desk.railbed("adopt", desk.name).stderr
    assert traces(desk), "the look for traces finds them"
    assert "folder" not in traces(desk)
    assert desk.railbed("down", desk.name).returncode == 0
    assert traces(desk) == []
    assert sorted(path.name for path in desk.cwd.iterdir() if path.name not in {".labs", "state"}) == before
    assert network or not network_of_theirs()


def test_a_wrong_lab_is_reported(desk: Desk) -> None:
    """Control: a leaf that does not announce its hosts is up and not converged: exit 1, and the pings are named."""
    conf = desk.cwd / "leaf1" / "frr.conf"
    conf.write_text(conf.read_text().replace("  network 192.168.1.128/25\n", ""))
    up = desk.call("timeout", "60", sys.executable, "-c", SHORT_UP, "theirs.clab.yml")
    assert up.returncode == 1, up.stderr
    assert "PC3 > PC2 (IPv4): 1 of 1 lost" in up.stdout


SHORT_UP = """
import sys
from labs.lab import open_lab
from labs.request import Request
lab = open_lab(Request(sys.argv[1]), within=4).lab
print(lab.converged)
lab.close()
sys.exit(0 if lab.converged.held else 1)
"""


def test_a_kill_leaves_what_reap_removes(desk: Desk) -> None:
    """SIGKILL while containerlab makes containers, and once more while the lab is read."""
    network = network_of_theirs()
    env = {**os.environ, "RAILBED_STATE_DIR": str(desk.cwd / "state")}
    for words, least in (("containers", 2), ("read", 8)):
        child = subprocess.Popen(
            [RAILBED, "up", "theirs.clab.yml"], cwd=desk.cwd, env=env, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        waited = wait_until(words, lambda: len(desk.containers), lambda n, least=least: n >= least, within=60)  # type: ignore[misc]
        assert waited.held
        child.kill()
        child.wait()
        assert traces(desk)
        assert "would be undone" in desk.railbed("reap", "--dry-run").stderr
        assert desk.railbed("reap").returncode == 0
        assert traces(desk) == []
    assert network or not network_of_theirs()


def snapshot(desk: Desk) -> Mapping[str, Any]:
    """Everything of a lab that adopting it must not change: starts, links, addresses, routes, settings of ports."""
    found: dict[str, Any] = {}
    for name in desk.containers:
        with engine.asking(engine.address()):
            said = engine.client(engine.address()).api.inspect_container(name)
        net = ("nsenter", f"--net=/proc/{said['State']['Pid']}/ns/net", "--", "ip", "-j")
        links = json.loads(desk.call(*net, "addr").stdout)
        routes = [json.loads(desk.call(*net, family, "route").stdout or "[]") for family in ("-4", "-6")]
        found[name] = {
            "started": said["State"]["StartedAt"],
            "pid": said["State"]["Pid"],
            "restarts": said["RestartCount"],
            "state": said["State"]["Status"],
            "links": [
                (link["ifname"], link["ifindex"], link["operstate"], link["mtu"], link.get("address"), sorted(
                    (one["local"], one["prefixlen"]) for one in link["addr_info"]))
                for link in links
            ],
            "routes": sorted(
                json.dumps({k: v for k, v in route.items() if k not in {"nhid", "nexthops", "flags"}})
                + str(sorted((hop["gateway"], hop["dev"]) for hop in route.get("nexthops", ())))
                for family in routes
                for route in family
            ),
        }  # fmt: skip
    return found


def test_adopt_and_down_leave_it_as_found(desk: Desk) -> None:
    """A lab of containerlab's is adopted, asked, broken, and let go: containers, links, addresses and routes are equal.

    A static route and an IPv6 address at the port that is cut would be lost by setting it down alone.
    """
    desk.containerlab("deploy")
    rested = wait_until("rest", lambda: stands_still(desk), lambda same: same, within=60)
    assert rested.held
    leaf = f"clab-{desk.name}-leaf1"
    for line in ("-6 addr add 2001:db8::1/64 dev eth1 nodad", "route add 203.0.113.0/24 via 10.10.1.2 dev eth1"):
        assert desk.call("docker", "exec", leaf, "ip", *line.split()).returncode == 0
    before = snapshot(desk)
    adopted = desk.railbed("adopt", desk.name)
    assert adopted.returncode == 0, adopted.stderr
    assert "adopted already" in desk.railbed("adopt", desk.name).stderr
    assert desk.name in desk.railbed("list").stdout
    for verb in (("status", desk.name), ("inspect", desk.name), ("routes", "leaf1"), ("sessions", "leaf1"),
                 ("path", "PC1", "PC4"), ("exec", "PC1", "--", "true")):  # fmt: skip
        assert desk.railbed(*verb).returncode == 0, verb
    (desk.cwd / "test_it.py").write_text(ASKED)
    judged = desk.call(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--lab-adopt", desk.name)
    assert judged.returncode == 0, judged.stdout
    held = subprocess.Popen(
        [sys.executable, "-c", CUT, desk.name], cwd=desk.cwd, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "RAILBED_STATE_DIR": str(desk.cwd / "state")},
    )  # fmt: skip
    assert held.stdout is not None
    assert held.stdout.readline().strip() == "cut"
    assert snapshot(desk) != before, "the look at a lab sees a cut link"
    assert desk.railbed("down", desk.name).returncode == 0
    held.kill()
    held.wait()
    waited = wait_until("as it was", lambda: snapshot(desk) == before, lambda same: same, within=30)
    after = snapshot(desk)
    assert waited.held, [(key, name, before[name][key], after[name][key]) for name in before for key in before[name]
                         if before[name][key] != after[name].get(key)]  # fmt: skip
    assert "not up" in desk.railbed("down", desk.name).stderr
    assert desk.railbed("status", desk.name).returncode == 2


ASKED = """
def test_it(lab, fabric):
    assert lab.node("PC1").run("hostname").stdout == "PC1\\n"
    assert lab.wait_routes_match(within=10)
"""
CUT = """
import sys
from labs.faults.catalogue import link_down
from labs.lab import adopt_lab
lab = adopt_lab(sys.argv[1])
lab.pause("PC2")
with link_down(lab, "leaf1:spine1"):
    print("cut", flush=True)
    sys.stdin.read() if sys.stdin.isatty() else __import__("signal").pause()
"""


def test_an_adopted_lab_that_is_gone_is_let_go(desk: Desk) -> None:
    """Faults in it cannot be mended where there is nothing left to mend: `down` says no more, and the index is empty.

    First a node goes, and what the run directory held; a cut that can be mended is, all the same. Then all of it.
    """
    desk.containerlab("deploy")
    assert wait_until("rest", lambda: stands_still(desk), lambda same: same, within=60).held
    assert desk.railbed("adopt", desk.name, "--no-wait").returncode == 0
    for link in ("leaf1:spine1", "leaf2:spine2"):
        made = desk.railbed("fault", "add", "link-down", link)
        assert made.returncode == 0, made.stderr
    desk.call("docker", "rm", "--force", f"clab-{desk.name}-spine1")
    shutil.rmtree(desk.cwd / ".labs")
    down = desk.railbed("down", desk.name)
    assert down.returncode == 0, down.stderr
    leaf2 = desk.call("docker", "exec", f"clab-{desk.name}-leaf2", "ip", "-j", "link", "show", "eth2")
    assert "UP" in json.loads(leaf2.stdout)[0]["flags"], "what was left of it was mended"
    assert desk.railbed("adopt", desk.name, "--no-wait").returncode == 0
    assert desk.railbed("fault", "add", "link-down", "leaf2:spine2").returncode == 0
    desk.containerlab("destroy", "--cleanup")
    down = desk.railbed("down", desk.name)
    assert down.returncode == 0, down.stderr
    assert not (desk.cwd / "state" / "labs").exists()


def test_a_daemon_under_a_supervisor_stays_dead(desk: Desk) -> None:
    """watchfrr would start bgpd by itself within seconds: not while the fault lasts, but again after it."""
    desk.containerlab("deploy")
    assert wait_until("rest", lambda: stands_still(desk), lambda same: same, within=60).held
    assert desk.railbed("adopt", desk.name).returncode == 0
    leaf = f"clab-{desk.name}-leaf1"
    killed = desk.railbed("fault", "add", "daemon-kill", "leaf1")
    assert killed.returncode == 0, killed.stderr
    until = time.monotonic() + STARTED_BY_WATCHFRR_S
    wait_until("watchfrr would have started it", time.monotonic, lambda now: now > until, within=60)
    assert desk.call("docker", "exec", leaf, "pgrep", "bgpd").returncode == 1
    reverted = desk.railbed("fault", "revert", "--all")
    assert reverted.returncode == 0, reverted.stdout
    assert desk.call("docker", "exec", leaf, "pgrep", "bgpd").returncode == 0
    restarted = desk.railbed("fault", "add", "daemon-restart", "leaf1")
    assert restarted.returncode == 0, restarted.stderr
    desk.call("docker", "exec", leaf, "pkill", "-9", "bgpd")
    found = ("docker", "exec", leaf, "pgrep", "bgpd")
    assert wait_until("watchfrr starts it", lambda: desk.call(*found).returncode == 0, bool, within=60).held
    assert desk.railbed("down", desk.name).returncode == 0


def stands_still(desk: Desk) -> bool:
    """Whether a lab stands still for a second, with all its sessions up."""
    first = snapshot(desk)
    until = time.monotonic() + 1.0
    wait_until("a second", time.monotonic, lambda now: now > until, within=5)
    text = json.dumps(first)
    return snapshot(desk) == first and "192.168.2.128/25" in text and text.count("10.255.0.12") > 2


def test_one_clear_message_each(desk: Desk) -> None:
    """What cannot be adopted or brought up, with what to do instead."""
    assert "containerlab runs no lab 'nosuchlab'" in desk.railbed("adopt", "nosuchlab").stderr
    assert "allowed: containerlab" in desk.railbed("up", "theirs.clab.yml", "--backend", "netns").stderr
    assert "it is deployed as it is" in desk.railbed("up", "theirs.clab.yml", "--image", "frr=x").stderr
    (desk.cwd / "a.clab.gotmpl").write_text("name: {{ .x }}")
    assert "is a template" in desk.railbed("up", "a.clab.gotmpl").stderr
    desk.containerlab("deploy")
    up = desk.railbed("up", "theirs.clab.yml")
    assert up.returncode == 2
    assert f"railbed adopt {desk.name}" in up.stderr
