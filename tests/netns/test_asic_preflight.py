"""The real kernel, asked: what the soft ASIC needs is here, the answer comes fast, and nothing of the asking stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from unittest.mock import patch

import pytest

from labs import asic_preflight, bpf_probe, kernel, lease
from labs.asic_preflight import probe
from labs.telemetry.net_watch import NetWatch

UNKNOWN_HELPER = 9999


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))


def netdevs() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def test_this_kernel_has_what_the_soft_asic_needs() -> None:
    assert asic_preflight.missing(probe()) == ()


def test_it_asks_without_delay() -> None:
    """Whoever types `railbed status` does not wait for it: one program runs, for all queues at once, none is built."""
    with patch("subprocess.Popen", wraps=subprocess.Popen) as started:
        probe()
    assert [call.args[0][0] for call in started.call_args_list] == ["tc"]


def test_nothing_stays(tmp_path: Path) -> None:
    files = {path.name for path in Path("/proc/self/fd").iterdir()}
    home = Path("/proc/thread-self/ns/net").stat().st_ino
    before = netdevs()
    probe()
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == files
    assert Path("/proc/thread-self/ns/net").stat().st_ino == home
    assert netdevs() == before
    assert not (tmp_path / "state").exists()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_refusal_is_seen() -> None:
    """The probes say no where the kernel does: else their yes is worth nothing."""
    assert bpf_probe.helper(UNKNOWN_HELPER)
    assert bpf_probe.make_map(bpf_probe.RINGBUF, 1000)  # no power of two
    assert bpf_probe.tcx(1 << 20)  # no such interface
    assert asic_preflight.refused(_batch("qdisc add dev lo root handle 1: nosuch\n"))["htb"]


def _batch(lines: str) -> str:
    with kernel.inside_new_netns():
        argv = ["tc", "-force", "-batch", "-"]
        return subprocess.run(argv, input=lines, capture_output=True, text=True, check=False).stderr


def test_a_namespace_elsewhere_is_a_foreign_change() -> None:
    """Whoever makes or removes interfaces while a lab is measured shows, in whichever namespace that is."""
    name = f"railbed-test-{os.getpid()}"
    with lease.measuring("a") as held:
        assert not held.foreign_changes().namespaces_gone
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            made = held.foreign_changes().device_events
            subprocess.run(
                ["ip", "-n", name, "link", "add", "name", "va", "type", "veth", "peer", "name", "vb"], check=True
            )
            cabled = held.foreign_changes().device_events
            with NetWatch() as watch:
                subprocess.run(["ip", "netns", "del", name], check=True)
        finally:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    assert made is not None
    assert cabled is not None
    assert 0 < made < cabled
    assert watch.changes().namespaces_gone >= 1
    assert held.disturbed() is None  # it was none of ours: told, not judged
