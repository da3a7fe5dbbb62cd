"""A switch that was configured over its daemons' sockets runs what vtysh would have given it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import pytest

import labs.backends.netns
from labs.channel import Channel
from labs.errors import CapabilityMissing, DeployFailed
from labs.kinds.frr.joining import CONF, JOINING
from labs.lab import open_lab
from labs.pytest_plugin import unique_name
from labs.request import Request


@pytest.fixture
def running(tmp_path: Path) -> Callable[[str], Mapping[str, str]]:
    """The configuration that each switch of a fabric runs, once a lab of it has converged; it goes again."""

    def configurations(fabric: str) -> Mapping[str, str]:
        request = Request(fabric, backend="netns", name=unique_name(fabric), seed=7, folder=tmp_path, owned=True)
        lab = open_lab(request).lab
        try:
            assert lab.converged
            nodes = [lab.node(node.name) for node in lab.fabric.switches]
            return {node.name: node.channel.run("vtysh", "-c", "show running-config").stdout for node in nodes}
        finally:
            lab.close()

    return configurations


@pytest.mark.parametrize(("fabric", "has"), [("clos_2x4", "router bgp"), ("dual_plane_2x2x4", "ip route")])
def test_it_runs_what_vtysh_would_have_given_it(
    running: Callable[[str], Mapping[str, str]], monkeypatch: pytest.MonkeyPatch, fabric: str, has: str
) -> None:
    ways: list[bool] = []

    class Watched:
        def join(self, channel: Channel, files: Mapping[PurePosixPath, str]) -> bool:
            ways.append(JOINING.join(channel, files))
            return ways[-1]

    monkeypatch.setattr(labs.backends.netns, "joining", lambda kind: Watched() if kind == "frr" else None)
    over_sockets = running(fabric)
    assert len(ways) == len(over_sockets)
    if not all(ways):
        raise CapabilityMissing("joining", "FRR here takes its configuration from vtysh alone")
    monkeypatch.setattr(labs.backends.netns, "joining", lambda _: None)
    by_vtysh = running(fabric)
    assert over_sockets == by_vtysh
    assert all(has in text for name, text in by_vtysh.items() if name.startswith("leaf"))


def test_a_line_that_is_refused_ends_the_deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spoilt:
        def join(self, channel: Channel, files: Mapping[PurePosixPath, str]) -> bool:
            return JOINING.join(channel, {CONF: files[CONF].replace("router bgp", "ruoter bgp")})

    monkeypatch.setattr(labs.backends.netns, "joining", lambda kind: Spoilt() if kind == "frr" else None)
    name = unique_name("spoilt")
    with pytest.raises(DeployFailed, match=r"spine1: frr.conf, line \d+: no daemon takes 'ruoter bgp"):
        open_lab(Request("clos_2x4", backend="netns", name=name, folder=tmp_path, owned=True))
    assert not [path for path in Path("/run/netns").iterdir() if f".{name}." in path.name]
