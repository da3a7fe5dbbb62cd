"""Who can run a lab: one line each, imported on use so that a backend's own needs stay its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import cast

from labs.backends.base import Backend
from labs.errors import SpecError

BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "containerlab": "labs.backends.containerlab:ContainerlabBackend",
        "netns": "labs.backends.netns:NetnsBackend",
        "fake": "labs.backends.fake:FakeBackend",
    }
)


def backend(name: str) -> Backend:
    """The backend of that name. Raises SpecError that lists all."""
    if name not in BACKENDS:
        raise SpecError(f"no backend {name!r}", allowed=", ".join(BACKENDS))
    module, _, attribute = BACKENDS[name].partition(":")
    return cast(Backend, getattr(import_module(module), attribute)())
