"""Click groups that import commands lazily and suggest near names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click


class SuggestingGroup(click.Group):
    """Group that answers an unknown command with the nearest known one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command, or suggest the one that was meant."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            meant = difflib.get_close_matches(name, self.list_commands(ctx), n=1, cutoff=0.6)
            fix = f'Did you mean "{meant[0]}"?' if meant else f"Commands: {', '.join(self.list_commands(ctx))}."
            ctx.fail(f"No such command {name!r}. {fix}")
        return super().resolve_command(ctx, args)


class LazyGroup(SuggestingGroup):
    """A group of commands named by where they are.

    Args:
        targets: command name to ``("module:attribute", short help)``.
        sections: headings of the help, with the names of the commands under each in their order.
    """

    def __init__(
        self,
        *args: Any,
        targets: Mapping[str, tuple[str, str]],
        sections: Mapping[str, Sequence[str]] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._targets = dict(targets)
        self._sections = dict(sections)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._targets:
            return None
        module, _, attribute = self._targets[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = {name for names in self._sections.values() for name in names}
        others = [name for name in self._targets if name not in listed]
        width = max(map(len, self._targets), default=0)
        for title, names in (*self._sections.items(), ("Commands" if not listed else "Other commands", others)):
            rows = [(name.ljust(width), self._targets[name][1]) for name in names if name in self._targets]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
