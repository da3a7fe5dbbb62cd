"""Settings of the kernel under every node that forwards by Linux, whatever runs above it."""

from __future__ import annotations

from labs.spec import LabSpec
from topologies.fabric import Node


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
    if node.is_switch:
        settings["net.ipv4.ip_forward"] = "1"
        settings["net.ipv6.conf.all.forwarding"] = "1"
        settings["net.ipv6.conf.default.forwarding"] = "1"
    return settings
