"""Namespaces on one bridge, which is in a namespace too, until a module's tests are over."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

Bridged = Callable[[str, Mapping[str, str]], None]


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, timeout=10)


@pytest.fixture(scope="module")
def bridged() -> Iterator[Bridged]:
    """Makes hosts, each with an eth1 of this address: ``bridged("mine-", {"h1": "10.77.0.1/24", …})``.

    A host is the namespace mine-h1; the bridge is br0 in mine-sw, a host's port there is called as the host is.
    """
    with ExitStack() as undo:

        def made(name: str) -> None:
            ip("netns", "add", name)
            undo.callback(subprocess.run, ["ip", "netns", "del", name], check=False, capture_output=True, timeout=10)

        def make(prefix: str, addresses: Mapping[str, str]) -> None:
            switch = f"{prefix}sw"
            for name in (*addresses, "sw"):
                made(f"{prefix}{name}")
            ip("-n", switch, "link", "add", "br0", "up", "type", "bridge")
            for host, address in addresses.items():
                name = f"{prefix}{host}"
                ip(
                    "-n",
                    name,
                    "link",
                    "add",
                    "eth1",
                    "mtu",
                    "9000",
                    "type",
                    "veth",
                    "peer",
                    "name",
                    host,
                    "netns",
                    switch,
                )
                ip("-n", switch, "link", "set", host, "mtu", "9000", "master", "br0", "up")
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "addr", "add", address, "dev", "eth1")
                ip("-n", name, "link", "set", "eth1", "up")

        yield make
