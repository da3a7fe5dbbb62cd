"""Settings of the kernel under every node that forwards by Linux, whatever runs above it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labs.spec import LabSpec
from topologies.fabric import Node, Port

# Addresses here are unique by construction: duplicate address detection would only add a second.
IPV6_AT_ONCE: Mapping[str, str] = {
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.dad_transmits": "0",
    "net.ipv6.conf.default.router_solicitations": "0",
}
# What a container's software needs beyond an engine's usual: interfaces and routes. FRR's zebra asks for the last too.
HOST_CAPABILITIES = ("NET_ADMIN", "NET_RAW")
SWITCH_CAPABILITIES = (*HOST_CAPABILITIES, "SYS_ADMIN")
SHIPPED = "/railbed"  # where a container sees its node's rendered files
PORTS = "ports"  # the step that waits until every cable is plugged in
UP = "/run/railbed/up"  # there once every step has been taken
_BEGIN = f"""\
trap 'exit 0' TERM INT
rm -f {UP}
cp -R {SHIPPED}/. /
while ip route del default 2>/dev/null; do :; done
"""
_WAIT_FOR_PORTS = """\
is_up() {{ {{ read -r flags </sys/class/net/$1/flags; }} 2>/dev/null && [ $((flags & 1)) = 1 ]; }}
for port in {ports}; do
    until is_up $port; do sleep 0.1; done
done
"""
_STEP = """\
sh -e /run/railbed/{step} || {{ echo "/run/railbed/{step} exited $?"; exit 1; }}
"""
_END = f"""\
: > {UP}
while :; do sleep 86400 & wait $!; done
"""


def sysctls(node: Node, spec: LabSpec) -> dict[str, str]:
    """The sysctls of a node's network namespace.

    `ignore_routes_with_linkdown` takes a member without carrier out of its group at once, as a switch does and as
    SONiC sets it. `keep_addr_on_down` keeps IPv6 addresses over a flap, as IPv4 does. The multipath hash has a
    seed per tier: left alone, every namespace of a workstation shares one, and all tiers would pick alike.
    """
    chosen = spec.hash_of(node.tier)
    settings = {
        "net.ipv4.conf.all.ignore_routes_with_linkdown": "1",
        "net.ipv6.conf.all.ignore_routes_with_linkdown": "1",
        "net.ipv6.conf.all.keep_addr_on_down": "1",
        "net.ipv6.conf.default.keep_addr_on_down": "1",
        "net.ipv4.fib_multipath_hash_policy": str(chosen.policy),
        "net.ipv6.fib_multipath_hash_policy": str(chosen.policy),
        "net.ipv4.fib_multipath_hash_seed": str(chosen.seed),
    }
    if chosen.policy == 3:
        settings["net.ipv4.fib_multipath_hash_fields"] = str(chosen.field_bits)
        settings["net.ipv6.fib_multipath_hash_fields"] = str(chosen.field_bits)
    forwards = "1" if node.is_switch else "0"  # said either way: a container engine sets its own
    settings["net.ipv4.ip_forward"] = forwards
    settings["net.ipv6.conf.all.forwarding"] = forwards
    settings["net.ipv6.conf.default.forwarding"] = forwards
    return {**settings, **(IPV6_AT_ONCE if spec.ipv6 else {})}


def start(ports: Iterable[Port], *steps: str) -> str:
    """The first process of a node's container, which a namespace has no need of.

    Copies the node's files, rendered below SHIPPED, to where they belong, takes each of `steps` (PORTS, or the name
    of a file in /run/railbed that must exit 0), then waits for its end and buries what is orphaned. Management hangs
    on eth0 and gives no way out: what the fabric has no route for must not leave by it.
    """
    wait = _WAIT_FOR_PORTS.format(ports=" ".join(port.name for port in ports))
    taken = [wait if step == PORTS else _STEP.format(step=step) for step in steps]
    return "".join((_BEGIN, *taken, _END))


def container(node: Node, image: str, sysctls: Mapping[str, str], capabilities: Iterable[str]) -> dict[str, object]:
    """A node's entry in a containerlab topology, its first process the one that `start` describes."""
    return {
        "kind": "linux",
        "hostname": node.name,
        "image": image,
        "restart-policy": "no",  # a node that ends is a finding, and an engine's restart brings it back without cables
        "entrypoint": f"sh {SHIPPED}/run/railbed/start",
        "cap-add": list(capabilities),
        "sysctls": dict(sysctls),
    }
