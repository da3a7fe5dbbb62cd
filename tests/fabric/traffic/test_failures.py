"""TRAFFIC-F: what goes wrong under a collective is one message that names flows and hosts; the rest is kept.

    host1 ─ leaf1 ─┬─ spine1 ─┬─ leaf2 ─ host3 ✕      pairs: 1 > 2 and 5 > 6 go on, whatever becomes of host3
    host2 ─┘       └─ spine2 ─┘       └─ host4

A queue pair gives up after a time-out and its retries: 0.5 s, 4 times. A pair that nobody disturbs needs 2 MB at
40 Mbit/s, 0.4 s, and is waited for. Nothing here is a measurement: rates leave the workstation idle.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from labs.collective_bridge import addresses, play, playing, ranks_on
from labs.lab import Lab
from labs.testing import SECOND, wait_until
from topologies.units import MBIT
from traffic.engines.rc_plan import plans
from traffic.engines.rc_report import RcReport
from traffic.engines.rc_settings import RcSettings
from traffic.errors import TrafficError
from traffic.graph import Graph, Send
from traffic.placement import Placement

RAILBED = str(Path(sys.executable).with_name("railbed"))
RATE = 40 * MBIT
SIZE = 2_000_000
LONG = 20 * SIZE
SETTINGS = RcSettings(mtu=1024, timeout_s=0.5, retries=3)
GIVEN_UP = 6 * SECOND  # three times what retries take; fifteen times what a clean pair needs
UNDER_WAY = 100_000  # bytes: more than a host's own protocols, less than 0.1 s of its messages
# Ranks 0 to 7 are host1 to host8. What involves host3 takes 8 s at least, and is cut at once.
PAIRS = Graph(
    "pairs", 8, (Send(0, 1, SIZE), Send(4, 5, SIZE), Send(0, 2, LONG), Send(2, 6, LONG)),
    LONG, LONG,
)  # fmt: skip


@pytest.fixture
def placement(lab: Lab) -> Placement:
    return ranks_on(lab, rate_bps=RATE)


def players(lab: Lab) -> list[int]:
    """The pids of every rnic in the lab's networks."""
    networks = {lab.deployment.netns(node.name).stat().st_ino for node in lab.fabric.hosts}
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            if (entry / "comm").read_text().strip() == "rnic" and (entry / "ns" / "net").stat().st_ino in networks:
                found.append(pid)
    return found


def sockets(lab: Lab, host: str) -> str:
    """Who has RoCE's port on a host."""
    argv = ["nsenter", f"--net={lab.deployment.netns(host)}", "ss", "-Hulnp", "sport = :4791"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab) -> Iterator[None]:
    yield
    assert players(lab) == []
    assert sockets(lab, "host1") == sockets(lab, "host3") == ""


def done(report: RcReport) -> set[tuple[int, int]]:
    """Whose messages arrived."""
    return {(one.send.src, one.send.dst) for one in report.sends if one.done_s is not None}


def kill(lab: Lab, host: str) -> None:
    """KILL the rnic of a host."""
    network = lab.deployment.netns(host).stat().st_ino
    (pid,) = [pid for pid in players(lab) if Path(f"/proc/{pid}/ns/net").stat().st_ino == network]
    os.kill(pid, signal.SIGKILL)


def uplinks_down(lab: Lab, host: str) -> None:
    link = lab.fabric.link_at(host, "eth1").far(host)
    lab.node(link.node).run("ip", "link", "set", link.name, "down")


def uplinks_up(lab: Lab, host: str) -> None:
    link = lab.fabric.link_at(host, "eth1").far(host)
    lab.node(link.node).run("ip", "link", "set", link.name, "up")
    assert lab.wait_converged(30 * SECOND)


def nothing(_lab: Lab, _host: str) -> None:
    pass


@pytest.mark.lab("clos_frr")
@pytest.mark.parametrize(
    ("cut", "mended", "said"),
    [
        (kill, nothing, "host3 (rank 2): rnic was ended by SIGKILL; its flows: host3 to host1 (rank 2 to 0, "),
        (uplinks_down, uplinks_up, "(rank 2, 10.|to host3 (rank 0 to 2, "),
    ],
    ids=["killed", "retries-spent"],
)
def test_a_host_is_lost_in_the_middle(
    lab: Lab, placement: Placement, cut: Callable[[Lab, str], None], mended: Callable[[Lab, str], None], said: str
) -> None:
    with playing(lab, PAIRS, placement, SETTINGS, check=False) as run:
        try:
            cut(lab, "host3")
            report = run.finish(GIVEN_UP).report
        finally:
            mended(lab, "host3")
    assert isinstance(report, RcReport)
    assert report.error is not None
    assert any(part in report.error for part in said.split("|")), report.error
    # host3's own port takes nothing while its cable is dead, as in a pause: host7 waits for it to the time limit.
    assert ("not done within" in report.error) <= (cut is uplinks_down)
    if cut is uplinks_down:
        assert ": no acknowledgement after all retries" in report.error
        assert ", qp " in report.error
    assert (4, 5) in done(report), "the pair that host3 has nothing to do with"
    assert not done(report) & {(0, 2), (2, 6)}


@pytest.mark.lab("clos_frr")
def test_a_host_without_power_is_named_before_and_in_the_middle(lab: Lab, placement: Placement) -> None:
    try:
        with playing(lab, PAIRS, placement, SETTINGS, check=False) as run:
            lab.stop("host3")
            report = run.finish(GIVEN_UP).report
        assert "host3 (rank 0 to 2, " in str(report.error) or "host3 to host7 (rank 2 to 6, " in str(report.error)
        with pytest.raises(TrafficError, match=r"^host3 is stopped: no flow can be from or to it"):
            play(lab, PAIRS, placement, SETTINGS)
    finally:
        lab.start("host3")
        assert lab.wait_converged(60 * SECOND)


@contextmanager
def taken(lab: Lab, host: str) -> Iterator[None]:
    """Somebody else has RoCE's port on a host."""
    program = "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 4791)); print(); input()"
    argv = ["nsenter", f"--net={lab.deployment.netns(host)}", sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == "\n"
        try:
            yield
        finally:
            other.stdin.close()
            other.wait(10)


@pytest.mark.lab("clos_frr")
def test_a_port_that_is_taken_and_a_receiver_that_is_missing(
    lab: Lab, placement: Placement, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flow = r"; its flows: host3 to host1 \(rank 2 to 0, 10\.\S+ > 10\.\S+, qp \d+\), host3 to host7 \("
    with (
        taken(lab, "host3"),
        pytest.raises(
            TrafficError, match=rf"^host3 \(rank 2\): rnic does not start: .*4791: Address already in use{flow}"
        ),
    ):
        play(lab, PAIRS, placement, SETTINGS)
    monkeypatch.setattr("labs.collective_bridge.in_network", _without_rnic("host3", tmp_path))
    with pytest.raises(TrafficError, match=rf"^host3 \(rank 2\): rnic does not start: .*{flow}"):
        play(lab, PAIRS, placement, SETTINGS)


def _without_rnic(host: str, folder: Path) -> Callable[..., object]:
    from labs.channels.namespaces import in_network

    def start(node: str, netns: Path, argv: tuple[str, ...]) -> object:
        return in_network(node, netns, (str(folder / "rnic"), *argv[1:]) if node.startswith(host) else argv)

    return start


@pytest.mark.lab("clos_frr")
def test_addresses_of_another_lab(lab: Lab, placement: Placement) -> None:
    """A plan with an address that this lab's host has not: refused where it would begin, host and flow named."""
    from dataclasses import replace

    from labs.channels.namespaces import in_network
    from traffic.engines.rnic_rc import start_rc

    ours = plans(PAIRS, placement, addresses(lab), SETTINGS)
    texts = {**ours.texts, 2: ours.texts[2].replace("src=10.64.", "src=10.99.")}
    with pytest.raises(
        TrafficError,
        match=r"^host3 \(rank 2\): rnic does not start: .*no interface has its src.*; its flows: host3 to ",
    ):
        start_rc(
            replace(ours, texts=texts),
            lambda node, argv: in_network(node, lab.deployment.netns(lab.node(node).name), argv),
        )


@pytest.mark.lab("clos_frr")
def test_the_command_keeps_the_lines_it_had(lab: Lab, tmp_path: Path) -> None:
    """Sizes 64 kB and then 32 MB; host3 is killed during the second: exit 2, one message, one line in the table."""
    file = tmp_path / "out.json"
    argv = [
        RAILBED, "traffic", "all_reduce", "--lab", lab.name, "-b", "64K", "-e", "32M", "-f", "512",
        "-n", "1", "-w", "0", "--rate", "40Mbit", "-J", str(file),
    ]  # fmt: skip
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout
        while (line := command.stdout.readline()) and not line.lstrip().startswith("65536 "):
            pass
        assert line, "the first size has a line"
        host3 = lab.deployment.netns("host3").stat().st_ino
        # It may be there and not yet ready, which would be told otherwise: what it sends shows that all have begun.
        before = _sent(lab, "host3")
        sends = wait_until(
            "host3 sends", lambda: _sent(lab, "host3"), lambda sent: sent > before + UNDER_WAY, within=20 * SECOND
        )
        assert sends.held, sends
        (pid,) = _in(lab, host3)
        os.kill(pid, signal.SIGKILL)
        out, err = command.communicate(timeout=60)
    assert command.returncode == 2, err
    assert err.count("host3 (rank 2): rnic was ended by SIGKILL; its flows: host3 to ") == 1
    assert "# Collective test concluded" in out
    found = json.loads(file.read_text())
    assert [one["size"] for one in found["results"]] == [65536]
    assert found["errors"]
    assert found["railbed"]["valid"] is False


def _sent(lab: Lab, host: str) -> int:
    """Bytes that a host has put on its cable, in all."""
    return lab.counters()[host, "eth1"].tx_bytes


def _in(lab: Lab, network: int) -> list[int]:
    return [pid for pid in players(lab) if Path(f"/proc/{pid}/ns/net").stat().st_ino == network]


@pytest.mark.lab("clos_frr")
def test_a_command_that_is_killed_leaves_nothing(lab: Lab) -> None:
    argv = [
        RAILBED,
        "traffic",
        "all_reduce",
        "--lab",
        lab.name,
        "-b",
        "64M",
        "--rate",
        "40Mbit",
    ]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
        all_run = wait_until("all run", lambda: players(lab), lambda pids: len(pids) == 8, within=20 * SECOND)
        assert all_run.held, all_run
        command.send_signal(signal.SIGKILL)
        command.wait(10)
    left = wait_until("nothing runs", lambda: players(lab), lambda pids: not pids, within=10 * SECOND)
    assert left.held, left
