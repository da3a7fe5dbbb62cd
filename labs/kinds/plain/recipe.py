"""A plain node is never rendered: it comes with a lab that somebody else designed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NoReturn

from labs.errors import SpecError
from labs.spec import LabSpec
from topologies.fabric import Fabric, Node


class PlainRecipe:
    """See labs.kinds.base.Recipe."""

    def container(self, node: Node, fabric: Fabric, spec: LabSpec) -> Mapping[str, object]:
        """Raises SpecError."""
        del fabric, spec
        _refuse(node)

    def files(self, node: Node, fabric: Fabric, spec: LabSpec) -> Mapping[PurePosixPath, str]:
        """Raises SpecError."""
        del fabric, spec
        _refuse(node)

    def private(self) -> tuple[str, ...]:
        """None."""
        return ()

    def logs(self) -> Mapping[str, str]:
        """None."""
        return {}

    def programs(self) -> Mapping[str, str]:
        """None."""
        return {}


def _refuse(node: Node) -> NoReturn:
    raise SpecError(f"found kind plain for {node}", allowed="plain only in a containerlab file of your own")


RECIPE = PlainRecipe()
