"""Plugins of other packages, found by entry points or handed in.

A package offers a plugin by an entry point of the group ``semroute.KIND``
(https://packaging.python.org/en/latest/specifications/entry-points/)::

    [project.entry-points."semroute.checks"]
    polite = "acme_semroute:Polite"

A program without a package of its own hands one in by argument: :class:`Plugins`. Finding plugins reads the metadata of
the installed distributions and imports none of them; a plugin is imported when the configuration names it, a command
when it is invoked. ``importlib.metadata`` itself is imported at the first name that is not built in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import PathFinder
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from semroute.errors import PluginError, SemrouteError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

Kind: TypeAlias = Literal["strategies", "checks", "encoders", "providers", "commands"]
"""Kind of a plugin; its group of entry points is ``semroute.KIND``."""

SINGULAR: Mapping[Kind, str] = {
    "strategies": "strategy",
    "checks": "check",
    "encoders": "encoder",
    "providers": "provider",
    "commands": "command",
}
MOST_QUOTED = 200
"""Characters of a foreign error that a message quotes."""


def group_of(kind: Kind) -> str:
    """Return the group of entry points of a kind."""
    return f"semroute.{kind}"


@dataclass(frozen=True, slots=True)
class Plugin:
    """Plugin that is installed or handed in, not imported yet.

    Attributes:
        kind: kind of the plugin.
        name: name that a configuration or a command line uses.
        package: name of the distribution; None where it was handed in by argument.
        version: version of the distribution; None likewise.
        entry: the entry point; None likewise.
        given: what was handed in by argument.
    """

    kind: Kind
    name: str
    package: str | None = None
    version: str | None = None
    entry: EntryPoint | None = None
    given: Any = field(default=None, hash=False)

    def __str__(self) -> str:
        """Return kind, name and origin as a phrase for messages."""
        return f'the {SINGULAR[self.kind]} "{shown(self.name)}" {self.origin}'

    @property
    def origin(self) -> str:
        """Distribution and entry point, as a phrase for messages."""
        if self.entry is None:
            return "that was handed in"
        where = f'entry point "{shown(self.name)} = {shown(self.entry.value)}" of {group_of(self.kind)}'
        return f"of the package {self.distribution} ({where})"

    @property
    def distribution(self) -> str:
        """Name and version of the distribution; "" where it was handed in."""
        return " ".join(shown(part) for part in (self.package, self.version) if part)

    @property
    def fix(self) -> str:
        """Remedy for a plugin that cannot be used, for messages."""
        if self.package is None:
            return "correct it, or hand in another one"
        return f"update or repair the package {shown(self.package)}, or name another {SINGULAR[self.kind]}"

    def load(self) -> Any:
        """Import the plugin, and return the object that it names.

        Raises:
            PluginError: it cannot be imported, or its module has no such attribute.
        """
        if self.entry is None:
            return self.given
        try:
            return self.entry.load()
        except (Exception, SystemExit) as error:
            raise self.error(f"cannot be imported: {said(error)}") from error

    def error(self, message: str) -> PluginError:
        """Return an error about this plugin, with its origin and the fix."""
        return PluginError(f"{self} {message}; {self.fix}", kind=self.kind, name=self.name, package=self.package)


def said(error: BaseException) -> str:
    """Return class and message of a foreign error, on one short line."""
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in str(error)[:4000]).split())
    clipped = words if len(words) <= MOST_QUOTED else f"{words[:MOST_QUOTED]}…"
    return f"{type(error).__name__}: {clipped}" if clipped else type(error).__name__


def shown(text: str) -> str:
    """Return the text of another package's metadata as printable text."""
    return text if text.isprintable() else ascii(text)


# Discovery: metadata of the installed distributions.


def installed(kind: Kind) -> Mapping[str, tuple[Plugin, ...]]:
    """Return the installed plugins of a kind by name, without importing any.

    A name has several where distributions claim it both. A distribution whose entry points cannot be read is left out.
    """
    return _installed(kind, tuple(sys.path), tuple(map(_changed, sys.path)))


@lru_cache(maxsize=16)
def _installed(kind: Kind, _: tuple[str, ...], __: tuple[float, ...]) -> Mapping[str, tuple[Plugin, ...]]:
    found: dict[str, tuple[Plugin, ...]] = {}
    if not _may_have(group_of(kind)):
        return MappingProxyType(found)
    for entry in sorted(_entries(group_of(kind)), key=lambda entry: (entry.name, entry.value)):
        package, version = _distribution(entry)
        plugin = Plugin(kind, entry.name, package, version, entry)
        found[entry.name] = (*found.get(entry.name, ()), plugin)
    return MappingProxyType(found)


def _changed(folder: str) -> float:
    try:
        return os.stat(folder or ".").st_mtime  # noqa: PTH116 (a Path for each folder takes longer than its stat)
    except (OSError, ValueError):
        return 0.0


def _may_have(group: str) -> bool:
    """Return False if no distribution on the import path has the group.

    It takes a twentieth of the time of importing ``importlib.metadata``, which the help of the command line would spend
    for nothing on most machines. Anything but folders of distributions is left to that module.
    """
    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        return True
    wanted = f"[{group}]".encode()
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                names = [entry.path for entry in entries if entry.name.endswith((".dist-info", ".egg-info", ".egg"))]
        except NotADirectoryError:  # a ZIP file
            return True
        except (OSError, ValueError):
            continue
        if any(name.endswith(".egg") or _has_group(name, wanted) for name in names):
            return True
    return False


def _has_group(distribution: str, wanted: bytes) -> bool:
    try:
        with open(os.path.join(distribution, "entry_points.txt"), "rb") as file:  # noqa: PTH118, PTH123 (as above)
            return wanted in file.read()
    except OSError:
        return False


def _entries(group: str) -> Iterable[EntryPoint]:
    from importlib.metadata import distributions, entry_points

    try:
        return entry_points(group=group)
    except Exception:  # one unreadable distribution must not hide the others
        found: dict[str, EntryPoints] = {}
        for distribution in distributions():
            try:
                found.setdefault(distribution.name, distribution.entry_points.select(group=group))
            except Exception:  # what it offers is then unknown, and an error that names a plugin lists the others
                continue
        return [entry for entries in found.values() for entry in entries]


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    try:
        return str(entry.dist.name), str(entry.dist.version)  # type: ignore[union-attr]
    except Exception:  # metadata without a name
        return "(unnamed)", "?"


# Registry: what is handed in, then what is installed.


@dataclass(frozen=True, slots=True)
class Plugins:
    """Plugins that a configuration may name.

    Configurations are equal whatever they may name: what they do name counts.

    Attributes:
        given: plugins handed in by argument, by kind and name. They come before installed ones of the same name.
    """

    given: Mapping[Kind, Mapping[str, Plugin]] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    @classmethod
    def of(
        cls,
        *,
        strategies: Mapping[str, Any] | None = None,
        checks: Mapping[str, Any] | None = None,
        encoders: Mapping[str, Any] | None = None,
        providers: Mapping[str, Any] | None = None,
    ) -> Plugins:
        """Return the registry of mappings from names to factories."""
        kinds: dict[Kind, Mapping[str, Any] | None] = {
            "strategies": strategies,
            "checks": checks,
            "encoders": encoders,
            "providers": providers,
        }
        made = {
            kind: {name: Plugin(kind, name, given=factory) for name, factory in (mapping or {}).items()}
            for kind, mapping in kinds.items()
        }
        return cls({kind: named for kind, named in made.items() if named})

    def find(self, kind: Kind, name: str) -> Plugin | None:
        """Return the plugin of a name; None where there is none.

        Raises:
            PluginError: two distributions claim the name.
        """
        given = self.given.get(kind, {}).get(name)
        return given if given is not None else sole(installed(kind).get(name, ()))

    def names(self, kind: Kind) -> dict[str, str]:
        """Return the known names of a kind, each with its distribution."""
        named = {name: found[0].distribution for name, found in installed(kind).items()}
        return {**named, **dict.fromkeys(self.given.get(kind, {}), "")}


def sole(found: tuple[Plugin, ...]) -> Plugin | None:
    """Return the only plugin of a name; None of none.

    Raises:
        PluginError: there are several.
    """
    if len(found) < 2:
        return found[0] if found else None
    first = found[0]
    both = " and ".join(dict.fromkeys(plugin.distribution for plugin in found))
    raise PluginError(
        f'two plugins are named "{shown(first.name)}" in the group {group_of(first.kind)}: {both} both claim it; '
        "uninstall one of them",
        kind=first.kind,
        name=first.name,
        package=first.package,
    )


# Factories: calling one, and checking what it returns.


def make(plugin: Plugin, *arguments: Any, needs: Mapping[str, type | None]) -> Any:
    """Call a plugin's factory, and check the members of its result.

    Args:
        plugin: the plugin.
        arguments: arguments of the factory.
        needs: required attributes with their types; None: a method.

    Raises:
        PluginError: it cannot be imported, is not callable, raised an error, or its result lacks a member.
        SemrouteError: as the factory raised it.
    """
    factory = plugin.load()
    if not callable(factory):
        raise plugin.error(f"is a {type(factory).__name__}, and not a class or function that can be called")
    try:
        made = factory(*arguments)
    except SemrouteError:
        raise
    except Exception as error:
        raise plugin.error(f"cannot be made: {said(error)}") from error
    missing = [f'"{name}"{_wanted(kind)}' for name, kind in needs.items() if not _has(made, name, kind)]
    if missing:
        what = SINGULAR[plugin.kind]
        raise plugin.error(f"gives a {type(made).__name__}, which is no {what}: it needs {', '.join(missing)}")
    return made


def _has(made: object, name: str, kind: type | None) -> bool:
    try:
        value = getattr(made, name)
    except Exception:  # a property may raise anything
        return False
    return callable(value) if kind is None else isinstance(value, kind)


def _wanted(kind: type | None) -> str:
    return " (a method)" if kind is None else f" ({kind.__name__})"
