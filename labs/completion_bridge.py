"""Completion times of what was played on a lab: by message where the engine tells them apart, else by flow."""

from __future__ import annotations

from labs.collective_bridge import Played
from traffic.completion import Completion, Finished, completion
from traffic.engines.graphs import EngineSettings, efficiency
from traffic.engines.rc_report import RcReport
from traffic.placement import Placement


def completion_of(played: Played, placement: Placement, engine: EngineSettings) -> Completion | None:
    """Of the last iteration; None where nothing came to its end."""
    share = efficiency(engine)
    rates, into = (
        [min(of[place.host, nic] for nic in place.nics) * len(place.nics) for place in placement.ranks]
        for of in (placement.rates_bps(), placement.receive_bps())
    )
    if isinstance(played.report, RcReport):
        sends = [(one.send, one.took_s) for one in played.report.sends]
        return completion(
            [
                Finished(send.size, took, min(rates[send.src], into[send.dst]) * share)
                for send, took in sends
                if took is not None
            ]
        )
    out_of: dict[str, float] = {}
    into_host: dict[str, float] = {}
    for rank, place in enumerate(placement.ranks):
        out_of[place.host] = min(rates[rank], out_of.get(place.host, rates[rank]))
        into_host[place.host] = min(into[rank], into_host.get(place.host, into[rank]))
    return completion(
        [
            Finished(flow.bytes, flow.took_s, min(out_of[flow.src], into_host[flow.dst]) * share)
            for flow in played.report.flows
            if flow.took_s is not None
        ]
    )
