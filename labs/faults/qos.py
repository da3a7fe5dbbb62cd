"""Faults of a switch's QoS configuration: what somebody forgot, or typed wrong, at one end of a cable or on one switch.

All are edits of the profile (labs/dataplane/edits.py): rows for single ports, and named rows of the switch's own beside
the right ones. A host's end of a cable follows the same tables, as a NIC with lossless settings of its own does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from labs.dataplane.edits import Edit, port_row
from labs.dataplane.intent import PortIntent
from labs.dataplane.profile import Profile
from labs.dataplane.selectors import best
from labs.errors import SpecError
from labs.faults.fault import Example, Fault, On, Param, Site, Step
from labs.faults.profiles import PROFILE_BACK, beneath, profile_back, profile_step
from labs.faults.undoing import Verb
from topologies.fabric import Port

# A group without PFC gets what SONiC gives every lossy one (qos templates: ingress_lossy_profile).
LOSSY = "fault.lossy"
LOSSY_TH = "3"
DSCPS = 64
LONGEST_NAME = 32  # config_db: NAME_WORDS
END = Param("end", "the node whose end of the cable is wrong; needed between two switches", default="")


def _pfc_off(site: Site) -> Sequence[Step]:
    profile, port = beneath(site.lab), _end(site)
    intent = profile.port(port.node, port.name)
    _lossless(intent, port)
    off: dict[str, str | None] = {"pfc_enable": None, "pfcwd_sw_enable": None}
    edits = [Edit("PORT_QOS_MAP", port_row(port.node, port.name), off), *_made_lossy(intent, port)]
    return [profile_step(site, edits, _claims(edits))]


def _pfc_priority_mismatch(site: Site) -> Sequence[Step]:
    profile, port, priority = beneath(site.lab), _end(site), int(site.params["priority"])
    intent = profile.port(port.node, port.name)
    former = _lossless(intent, port)
    if priority in intent.pfc_enable:
        other = ", ".join(str(one) for one in range(8) if one not in intent.pfc_enable)
        raise SpecError(f"priority={priority}: PFC is on for it already", allowed=other)
    enabled: dict[str, str | None] = {"pfc_enable": str(priority), "pfcwd_sw_enable": None}
    group = port_row(port.node, port.name, intent.pfc_to_pg[priority])
    edits = [
        Edit("PORT_QOS_MAP", port_row(port.node, port.name), enabled),
        *_made_lossy(intent, port),
        Edit("BUFFER_PG", group, {"profile": former}),
    ]
    return [profile_step(site, edits, _claims(edits))]


def _dscp_map_mismatch(site: Site) -> Sequence[Step]:
    profile, ports = beneath(site.lab), _ports(site)
    asked = str(site.params["dscp"])
    if asked and not (asked.isdecimal() and int(asked) < DSCPS):
        raise SpecError(f"dscp={asked}", allowed=f"a whole number, 0 to {DSCPS - 1}")
    intents = [profile.port(port.node, port.name) for port in ports]
    lossless = {dscp for one in intents for dscp in range(DSCPS) if one.dscp_to_tc[dscp] in _lossless_classes(one)}
    dscps = [int(asked)] if asked else sorted(lossless)
    if not dscps:
        raise SpecError(f"{site.target} has no lossless class", allowed="dscp=N, or a profile with PFC")
    return [_mapped(site, profile, dscps)]


def _cnp_wrong_queue(site: Site) -> Sequence[Step]:
    return [_mapped(site, beneath(site.lab), [int(site.params["dscp"])])]


def _ecn_thresholds(site: Site) -> Sequence[Step]:
    profile, node = beneath(site.lab), site.target
    low, high, most = (int(site.params[name]) for name in ("kmin", "kmax", "pmax"))
    if low > high:
        raise SpecError(f"kmin={low} above kmax={high}", allowed=f"kmin up to {high}")
    fields = {"green_min_threshold": low, "green_max_threshold": high, "green_drop_probability": most}
    names: dict[str, str] = {}
    edits: list[Edit] = []
    for port in _ports(site):
        for queue in range(8):
            key = best(profile.rows.QUEUE, port.node, port.name, queue)
            name = profile.rows.QUEUE[key].wred_profile if key else None
            if name is None or profile.wred(name) is None:
                continue
            if name not in names:
                names[name] = _own(node, f"wred{len(names)}")
                said = {one: str(value) for one, value in fields.items()}
                edits.append(Edit("WRED_PROFILE", names[name], said, like=name))
            edits.append(Edit("QUEUE", port_row(port.node, port.name, queue), {"wred_profile": names[name]}))
    if not edits:
        raise SpecError(f"no queue of {node} marks", allowed="a profile with WRED_PROFILE, such as roce_default")
    return [profile_step(site, edits, _claims(edits))]


def _buffer_alpha(site: Site) -> Sequence[Step]:
    profile, node = beneath(site.lab), site.target
    names: dict[str, str] = {}
    fields: dict[str, str | None] = {"dynamic_th": str(site.params["dynamic_th"]), "static_th": None}
    edits: list[Edit] = []
    for port in _ports(site):
        for group in profile.port(port.node, port.name).pgs:
            if group.buffer is None or not group.lossless:
                continue
            name = group.buffer.name
            if name not in names:
                names[name] = _own(node, f"alpha{len(names)}")
                edits.append(Edit("BUFFER_PROFILE", names[name], fields, like=name))
            edits.append(Edit("BUFFER_PG", port_row(port.node, port.name, group.index), {"profile": names[name]}))
    if not edits:
        raise SpecError(f"no priority group of {node} is lossless", allowed="a profile with PFC, such as roce_default")
    return [profile_step(site, edits, _claims(edits))]


def _end(site: Site) -> Port:
    """The end of a cable that is wrong: the one that was named, or the only switch's."""
    ends, named = site.cable.ends, str(site.params["end"])
    found = [port for port in ends if port.node == named]
    if named and not found:
        raise SpecError(f"end={named}", allowed=" | ".join(port.node for port in ends))
    switches = [port for port in ends if site.lab.fabric.node(port.node).is_switch]
    if not named and len(switches) != 1:
        raise SpecError(f"{site.cable}: which end?", allowed=" | ".join(f"end={port.node}" for port in ends))
    return found[0] if named else switches[0]


def _ports(site: Site) -> tuple[Port, ...]:
    """A switch's ports."""
    return tuple(site.lab.fabric.ports(site.node.node))


def _lossless(intent: PortIntent, port: Port) -> str:
    """The buffer profile of a port's first lossless group. Raises SpecError where there is none."""
    for group in intent.pgs:
        if group.buffer is not None and group.lossless:
            return group.buffer.name
    raise SpecError(f"{port} has no PFC", allowed="a profile with pfc_enable, such as roce_default")


def _lossless_classes(intent: PortIntent) -> frozenset[int]:
    groups = {group.index for group in intent.pgs if group.lossless}
    return frozenset(tc for tc, group in enumerate(intent.tc_to_pg) if group in groups)


def _made_lossy(intent: PortIntent, port: Port) -> list[Edit]:
    """A port's lossless groups made lossy, as buffermgrd makes those without PFC."""
    edits = []
    for group in intent.pgs:
        if group.buffer is None or not group.lossless:
            continue
        fields = {"pool": group.buffer.pool.name, "size": "0", "dynamic_th": LOSSY_TH}
        edits.append(Edit("BUFFER_PROFILE", LOSSY, fields))
        edits.append(Edit("BUFFER_PG", port_row(port.node, port.name, group.index), {"profile": LOSSY}))
    return edits


def _mapped(site: Site, profile: Profile, dscps: Sequence[int]) -> Step:
    """A step that has a switch put DSCPs into another class, by a map of its own in place of each that it follows."""
    tc = str(site.params["tc"])
    maps: dict[str, str] = {}
    edits: list[Edit] = []
    for port in _ports(site):
        key = best(profile.rows.PORT_QOS_MAP, port.node, port.name)
        name = (profile.rows.PORT_QOS_MAP[key].dscp_to_tc_map if key else None) or ""
        if name not in maps:
            maps[name] = _own(site.target, f"dscp{len(maps)}")
            edits.append(Edit("DSCP_TO_TC_MAP", maps[name], {str(one): tc for one in dscps}, like=name))
        edits.append(Edit("PORT_QOS_MAP", port_row(port.node, port.name), {"dscp_to_tc_map": maps[name]}))
    return profile_step(site, edits, _claims(edits))


def _own(node: str, what: str) -> str:
    """The name of a switch's own row; a long node's name, as others' labs may have, goes in as a hash."""
    name = f"{node}.{what}"
    return name if len(name) <= LONGEST_NAME else f"{blake2b(node.encode(), digest_size=8).hexdigest()}.{what}"


def _claims(edits: Sequence[Edit]) -> list[str]:
    """What edits take for themselves.

    That a port follows the switch's own map of DSCPs is no claim: two faults of different DSCPs meet in one such map.
    Nor is the lossy profile, which says the same for all.
    """
    paths = [path for one in edits if one.row != LOSSY for path in one.paths]
    return [path for path in paths if not path.endswith("/dscp_to_tc_map")]


TC = Param("tc", "the traffic class that they are put into", default=0, kind=int, most=15)

PFC_OFF = Fault(
    name="pfc-off",
    on=On.LINK,
    imitates="a port where PFC was forgotten: it sends no pauses, obeys none, and its lossless groups are lossy. "
    "Unlike a real NIC, a host's end never runs out of its own memory",
    detected_by="drops in a lossless class (`lossless` is false), while the far end counts no pause",
    recovers="no packet of a lossless class is lost",
    steps=_pfc_off,
    params=(END,),
)
PFC_PRIORITY_MISMATCH = Fault(
    name="pfc-priority-mismatch",
    on=On.LINK,
    imitates="two ends of a cable with PFC on for different priorities: pauses come and stop a class that nobody uses",
    detected_by="drops in a lossless class (`lossless` is false), although both ends have PFC on",
    recovers="no packet of a lossless class is lost",
    steps=_pfc_priority_mismatch,
    params=(END, Param("priority", "the only one with PFC at that end", default=5, kind=int, most=7)),
)
DSCP_MAP_MISMATCH = Fault(
    name="dscp-map-mismatch",
    on=On.SWITCH,
    imitates="a switch whose DSCP_TO_TC_MAP does not know the RDMA class: it goes through a lossy queue there",
    detected_by="the class is counted in another queue, and lost there (`lossless` is false)",
    recovers="no packet of a lossless class is lost; each class is in its own queue",
    steps=_dscp_map_mismatch,
    params=(Param("dscp", "the DSCP that is mapped wrong; none: all of lossless classes", default=""), TC),
)
CNP_WRONG_QUEUE = Fault(
    name="cnp-wrong-queue",
    on=On.SWITCH,
    imitates="a switch without a queue for congestion notifications: they wait among data. The DSCP is BGP's and "
    "BFD's too, of which what the switch sends itself still has its own queue",
    detected_by="the DSCP is counted in another queue (`in_its_queue` is false); DCQCN reacts late and swings",
    recovers="the notifications' own queue carries them",
    steps=_cnp_wrong_queue,
    params=(Param("dscp", "that of CNPs", default=48, kind=int, most=DSCPS - 1), TC),
)
ECN_THRESHOLDS = Fault(
    name="ecn-thresholds",
    on=On.SWITCH,
    imitates="WRED thresholds of another switch's buffer; by default so high that PFC stops senders before a mark "
    "slows them (Kmin above XOFF)",
    detected_by="pauses without marks (`marks_before_pauses` is false)",
    recovers="marks come first; DCQCN leaves nothing to pause for",
    steps=_ecn_thresholds,
    params=(
        Param("kmin", "marks begin here", default=8 << 20, kind=int, most=2**32 - 1, unit="bytes"),
        Param("kmax", "all are marked from here", default=10 << 20, kind=int, least=1, most=2**32 - 1, unit="bytes"),
        Param("pmax", "of a hundred packets marked at kmax", default=5, kind=int, most=100, unit="percent"),
    ),
)
BUFFER_ALPHA = Fault(
    name="buffer-alpha",
    on=On.SWITCH,
    imitates="a new switch model whose dynamic threshold has another default: by default 1/64 of what is free of the "
    "buffer, which once made a whole data center pause",
    detected_by="pauses for bursts that fitted before (`absorbed` is false), ten times and more",
    recovers="pauses per second; bursts are absorbed",
    steps=_buffer_alpha,
    params=(Param("dynamic_th", "n of 2^n times what is free", default=-6, kind=int, least=-8, most=7),),
)

FAULTS = (PFC_OFF, PFC_PRIORITY_MISMATCH, DSCP_MAP_MISMATCH, CNP_WRONG_QUEUE, ECN_THRESHOLDS, BUFFER_ALPHA)
EXAMPLES: Mapping[str, Example] = {
    "pfc-off": Example("host1:leaf1"),
    "pfc-priority-mismatch": Example("leaf1:spine1", {"end": "leaf1", "priority": "5"}),
    "dscp-map-mismatch": Example("leaf1", {"dscp": "26"}),
    "cnp-wrong-queue": Example("leaf1"),
    "ecn-thresholds": Example("leaf1"),
    "buffer-alpha": Example("leaf1", {"dynamic_th": "-6"}),
}
VERBS: Mapping[str, Verb] = {PROFILE_BACK: profile_back}
