"""The management network of a lab on containers: its own bridge, and a subnet that nothing here uses.

Docker before 28.1 counts the containers of a network apart from its list of them, and was seen to count wrong (20.10):
such a network has nobody and cannot be removed until the engine is restarted. It holds a name and a subnet, nothing
more. `down` says so and leaves it, `reap` removes it as soon as the engine does.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Network
from itertools import chain, count, islice

from labs import engine, index, lease
from labs.errors import DeployFailed, LabError, NotReady, PreflightFailed
from labs.waiting import wait_until

# Networks of ours come out of the upper half of the block that engines take their own from (172.16.0.0/12, and
# there from the bottom up), so that the two meet late. No fabric of ours has addresses in it.
POOL = IPv4Network("172.24.0.0/13")
BRIDGE_NAME = "com.docker.network.bridge.name"
FREED_WITHIN = 10.0
LAB, INDEX = "railbed-lab", "railbed-index"  # labels: whose it is, and in which index that lab's journal is
# A shorter route leads everywhere, as a VPN's two halves of the default route do: nobody lives at its end.
NARROW = 8


def create(
    lab: str, nodes: int, labels: Mapping[str, str], subnet: IPv4Network | None = None, *, name: str = ""
) -> IPv4Network:
    """Create a network (by default ``railbed-<lab>``) with room for `nodes`; returns its subnet.

    Another lab may take a subnet between our look and our wish: the engine refuses, and the next free one is tried.
    Raises DeployFailed when there is none, PreflightFailed when the one that was asked for is in use.
    """
    import docker as sdk

    at = engine.address()
    taken = tuple(in_use())
    if subnet is not None and (meets := next((found for found in taken if found[0].overlaps(subnet)), None)):
        raise PreflightFailed(
            f"management subnet {subnet} is in use: {meets[1]} has {meets[0]}",
            remedy="another subnet under management: in the lab file, or none for one that is free",
        )
    wanted = [subnet] if subnet else [one for one in _pool(nodes) if not any(one.overlaps(t) for t, _ in taken)]
    marks = {**labels, LAB: lab, INDEX: str(index.state_dir())}
    refused = ""
    for one in wanted:
        ipam = sdk.types.IPAMConfig(pool_configs=[sdk.types.IPAMPool(subnet=str(one), gateway=str(one[1]))])
        with engine.asking(at):
            try:
                engine.client(at).api.create_network(
                    name or name_of(lab), driver="bridge", ipam=ipam, labels=marks, check_duplicate=True
                )
            except sdk.errors.APIError as error:
                refused = str(error.explanation or error)
                if "overlaps" not in refused:
                    raise
                continue
        return one
    raise DeployFailed(
        f"no management subnet for lab {lab}: none of {POOL} is free" + (f" ({refused})" if refused else ""),
        remedy="railbed list and docker network ls show who has them",
    )


def name_of(lab: str) -> str:
    """The name of a lab's management network."""
    return f"railbed-{lab}"


def free_name(lab: str) -> str:
    """A name for the management network of a lab that comes up: its own, unless the engine keeps an abandoned one.

    Raises PreflightFailed when somebody else has a network of that name.
    """
    plain = name_of(lab)
    for name in chain([plain], (f"{plain}-{number}" for number in count(2))):
        if not exists(name):
            return name
        if name not in _abandoned(engine.address()):
            raise PreflightFailed(
                f"docker network {name} exists and is not in our journal",
                remedy=f"docker network rm {name}, or bring the lab up under another --name",
            )
    raise AssertionError(plain)


def remove(name: str, labels: Mapping[str, str], at: str) -> None:
    """Remove a network of that name that carries our labels; any other of that name stays.

    The engine frees an address a moment after its container is gone. Raises NotReady that names whoever else uses the
    network: somebody may have connected a container of their own. One that is used by nobody, and that the engine
    keeps all the same, is left to `reap`, and said on stderr.
    """
    with engine.asking(at):
        found = engine.client(at).api.networks(filters={"label": [f"{k}={v}" for k, v in labels.items()]})
        for identifier in (one["Id"] for one in found if one["Name"] == name):
            gone = wait_until(
                f"docker network {name} gone", partial(_users, identifier, at), lambda u: u is None, within=FREED_WITHIN
            )
            if gone.last == ():
                lease.tell_on_stderr(miscounted(name))
            elif gone.last is not None:
                free = [f"docker network disconnect -f {name} {user}" for user in gone.last]
                raise NotReady(
                    f"docker network {name} is in use by {', '.join(gone.last)}",
                    remedy=", ".join([*free, "then: railbed reap"]),
                )


def miscounted(name: str) -> str:
    """What there is to say of a network that the engine keeps for nobody."""
    return (
        f"docker network {name} is left behind, empty: the Docker engine has lost count of its containers, and keeps "
        "it until it is restarted (engines before 28.1 do so); then railbed reap removes it"
    )


def abandoned() -> Mapping[str, str]:
    """The networks that `remove` had to leave: their labs, by name. None where no engine answers to us."""
    try:
        at = engine.address()
        return {name: lab for name, (lab, _) in _abandoned(at).items()} if engine.missing(at) is None else {}
    except LabError:
        return {}


def remove_abandoned(name: str) -> bool:
    """Try to remove one of them again; whether it is gone."""
    at = engine.address()
    with engine.asking(at):
        return all(_users(found[1], at) is None for known, found in _abandoned(at).items() if known == name)


def _abandoned(at: str) -> Mapping[str, tuple[str, str]]:
    """Networks of this index that no journal of it names any more, by name: whose they were, and their ids."""
    with engine.asking(at):
        found = engine.client(at).api.networks(filters={"label": f"{INDEX}={index.state_dir()}"})
    named = {  # read last: a network is in a journal before it is made
        entry.change.args["name"]
        for lab in index.names()
        for entry in index.journal(lab).open_entries()
        if entry.change.undo == "container-network"
    }
    return {one["Name"]: (one["Labels"][LAB], one["Id"]) for one in found if one["Name"] not in named}


def _users(identifier: str, at: str) -> tuple[str, ...] | None:
    """Remove a network: None when it is gone, else the containers that keep it."""
    import docker as sdk

    api = engine.client(at).api
    try:
        api.remove_network(identifier)
    except sdk.errors.NotFound:
        return None
    except sdk.errors.APIError as error:
        if "active endpoints" not in str(error):
            raise
        try:
            return tuple(sorted(one["Name"] for one in (api.inspect_network(identifier)["Containers"] or {}).values()))
        except sdk.errors.NotFound:
            return None
    return None


def remove_foreign(name: str, at: str) -> None:
    """Remove a network that containerlab has made and nobody uses, and the firewall rules it made for its bridge."""
    import docker as sdk

    with engine.asking(at):
        for one in engine.client(at).api.networks(names=[name]):
            if one["Name"] != name or "containerlab" not in (one.get("Labels") or {}):
                continue
            try:
                # Stopped ones too: without their network they would not start again.
                if engine.client(at).api.containers(all=True, filters={"network": one["Id"]}):
                    continue
                engine.client(at).api.remove_network(one["Id"])
            except sdk.errors.NotFound:
                pass
            except sdk.errors.APIError as error:
                if "active endpoints" in str(error):  # another lab came to use it this moment
                    continue
                raise
            _remove_rules((one.get("Options") or {}).get(BRIDGE_NAME) or f"br-{one['Id'][:12]}")


def _remove_rules(bridge: str) -> None:
    """Remove containerlab's rules for a bridge from the chain that Docker keeps for others."""
    for tables in ("iptables", "ip6tables"):
        for way in ("-i", "-o"):
            rule = ("DOCKER-USER", way, bridge, "-m", "comment", "--comment", "set by containerlab", "-j", "ACCEPT")
            with suppress(OSError):  # not installed: then there are none
                subprocess.run([tables, "-w", "-D", *rule], capture_output=True, check=False)


def exists(name: str) -> bool:
    """Whether the engine has a network of that name."""
    at = engine.address()
    with engine.asking(at):
        return any(one["Name"] == name for one in engine.client(at).api.networks(names=[name]))


def in_use() -> Iterator[tuple[IPv4Network, str]]:
    """Every IPv4 network that the workstation has a route to, or the engine gives addresses from, and whose it is."""
    at = engine.address()
    with engine.asking(at):
        for one in engine.client(at).api.networks():
            for pool in (one.get("IPAM") or {}).get("Config") or ():
                if "." in pool.get("Subnet", ""):
                    yield IPv4Network(pool["Subnet"], strict=False), f"docker network {one['Name']}"
    said = subprocess.run(
        ["ip", "-4", "-j", "route", "show", "table", "all"], capture_output=True, text=True, check=True
    ).stdout
    for route in json.loads(said or "[]"):
        if route["dst"] == "default" or route.get("type") == "local":
            continue
        network = IPv4Network(route["dst"], strict=False)
        if network.prefixlen >= NARROW:
            yield network, f"a route by {route.get('dev', 'this workstation')}"


def _pool(nodes: int) -> Iterable[IPv4Network]:
    """Candidates large enough: a gateway, the network's own two addresses, and twice the nodes for good measure."""
    length = 32 - max(6, (2 * nodes + 3).bit_length())
    return islice(POOL.subnets(new_prefix=length), 4096)
