"""What can go wrong with an engine, as opposed to with the traffic it plays.

    RailbedError             topologies/errors.py
    └── TrafficError         an engine cannot do its work on a host: exit 2

A flow that finds no path, stalls or loses packets is none of these: it is a `FlowResult` with its `error` or its
numbers, for a verdict to judge.
"""

from __future__ import annotations

from topologies.errors import RailbedError


class TrafficError(RailbedError):
    """An engine's program is missing on a host, does not start or answers nonsense."""
