"""What `railbed traffic` asks of an engine: its options as settings, and which engine knows which option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from labs.cli_options import number_of
from labs.errors import SpecError
from traffic.engines.rc_settings import Congestion, RcSettings, Recovery

if TYPE_CHECKING:
    from traffic.engines.graphs import EngineSettings

# The options that not every engine can honour, by engine.
ENGINES: Mapping[str, frozenset[str]] = {
    "rnic": frozenset({"check", "mtu", "qps", "split", "window", "recovery", "any_order", "cc", "dilation",
                       "delay_us", "fixed_port", "seed", "ib_timeout", "ib_retry_cnt"}),
    "iperf3": frozenset({"udp"}),
    "scapy": frozenset({"mtu", "fixed_port", "seed"}),
}  # fmt: skip
IB_TIMEOUT_S = 4.096e-6  # InfiniBand's local ACK time-out is this times two to a power
SPECIAL = frozenset().union(*ENGINES.values())


def given() -> frozenset[str]:
    """The parameters of this call that stand on the command line."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return frozenset(name for name in context.params if context.get_parameter_source(name) is not default)


def settings_of(options: Mapping[str, object], chosen: frozenset[str], *, seed: int) -> EngineSettings:
    """The engine's settings. Raises SpecError for an unknown engine, or an option it cannot honour.

    Args:
        chosen: the options that were said, not left at their default.
        seed: the lab's, where none was said.
    """
    name = str(options["engine"])
    if name not in ENGINES:
        raise SpecError(f"--engine {name}", allowed=", ".join(ENGINES))
    unknown = sorted((chosen & SPECIAL) - ENGINES[name])
    if "check" in unknown and not options["check"]:
        unknown.remove("check")  # -c 0 is what it does anyway
    if unknown:
        found = " ".join(f"--{word.replace('_', '-')}" for word in unknown)
        raise SpecError(f"{found} with --engine {name}", allowed=_knowing(unknown[0]))
    numbered = engine_seed(options, seed)
    if name == "iperf3":
        return _iperf3(options)
    if name == "scapy":
        return _scapy(options, numbered)
    window, recovery = number_of(options["window"]), Recovery(str(options["recovery"]))
    if options["any_order"] and recovery is not Recovery.SELECTIVE_REPEAT:
        raise SpecError(f"--any-order with --recovery {recovery}", allowed=f"--recovery {Recovery.SELECTIVE_REPEAT}")
    return RcSettings(
        mtu=number_of(options["mtu"]),
        qps=number_of(options["qps"]),
        split=bool(options["split"]),
        window=window,
        recovery=recovery,
        reorder=window if options["any_order"] else RcSettings().reorder,
        congestion=Congestion(str(options["cc"])),
        dilation=number_of(options["dilation"]),
        dscp=number_of(options["dscp"]),
        delay_s=float(str(options["delay_us"])) / 1e6,
        timeout_s=IB_TIMEOUT_S * 2 ** number_of(options["ib_timeout"]),
        retries=number_of(options["ib_retry_cnt"]),
        fixed_port=bool(options["fixed_port"]),
        seed=numbered,
    )


def engine_seed(options: Mapping[str, object], seed: int) -> int:
    """What was said with --seed, else the lab's."""
    return seed if options["seed"] is None else number_of(options["seed"])


def _iperf3(options: Mapping[str, object]) -> EngineSettings:
    from traffic.engines.iperf3_plan import Iperf3Settings
    from traffic.flows import Transport

    transport = Transport.UDP if options["udp"] else Transport.TCP
    return Iperf3Settings(transport, paced=options["rate"] is not None, dscp=number_of(options["dscp"]))


def _scapy(options: Mapping[str, object], seed: int) -> EngineSettings:
    from traffic.engines.crafted_plan import CraftedSettings

    mtu, dscp = number_of(options["mtu"]), number_of(options["dscp"])
    return CraftedSettings(mtu, dscp, fixed_port=bool(options["fixed_port"]), seed=seed)


def _knowing(option: str) -> str:
    """The engines that know an option."""
    return " or ".join(f"--engine {name}" for name, known in ENGINES.items() if option in known)
