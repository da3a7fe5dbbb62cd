"""Commands that are loaded when they are called for: `up` and `status` need not wait for what `traffic` is made of."""

from __future__ import annotations

from collections.abc import Callable

import click


def _cabling() -> click.Command:
    from labs.cli_cabling import cabling

    return cabling


def _counters() -> click.Command:
    from labs.cli_counters import counters

    return counters


def _fault() -> click.Command:
    from labs.cli_fault import fault

    return fault


def _profile() -> click.Command:
    from labs.cli_profile import commands

    return commands()


def _run() -> click.Command:
    from labs.cli_run import run

    return run


def _record() -> click.Command:
    from labs.cli_run import record

    return record


def _timeline() -> click.Command:
    from labs.cli_timeline import timeline

    return timeline


def _traffic() -> click.Command:
    from labs.cli_traffic import traffic

    return traffic


LAZY: dict[str, Callable[[], click.Command]] = {
    "cabling": _cabling,
    "counters": _counters,
    "fault": _fault,
    "profile": _profile,
    "record": _record,
    "run": _run,
    "timeline": _timeline,
    "traffic": _traffic,
}


class LazyGroup(click.Group):
    """A group with the commands of LAZY beside its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in order."""
        return sorted({*super().list_commands(ctx), *LAZY})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name, loaded now if it is one of LAZY."""
        load = LAZY.get(cmd_name)
        return load() if load else super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command meant; what is none is told apart from all there are, not only from those that are loaded."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as unknown:
            raise click.NoSuchCommand(unknown.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None
