"""Plugins in a configuration: their names, and the options that they take.

The options of a plugin are validated by its own pydantic model, the attribute ``Options`` of its factory; a plugin
without one takes none. Errors are located like those of the built-in sections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, PrivateAttr, SerializationInfo, ValidationError, ValidationInfo
from pydantic import model_serializer as serializer
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError

from semroute.config.values import BAD_VALUE, Context, Problem, bad_value
from semroute.errors import PluginError
from semroute.plugins import SINGULAR, Kind, Plugin, Plugins, group_of, installed, sole
from semroute.text.names import did_you_mean, printable

BUILT_IN: Mapping[Kind, tuple[str, ...]] = {
    "strategies": ("rules", "semantic", "classifier", "judge"),
    "checks": (
        "format",
        "confidence",
        "quality",
        "consistency",
        "agreement",
        "agreement_at_once",
        "without_logprobs",
        "sample_temperature",
    ),
    "encoders": ("onnx", "static", "multilingual", "joined", "torch", "remote", "plugin"),
    "providers": ("openai", "anthropic", "gemini", "responses"),
}
"""Names that no plugin can have: what is built in comes first."""

_PLUGINS = "plugins"
_EXPLAINED = frozenset(
    {
        "string_type", "float_type", "int_type", "bool_type", "int_from_float", "finite_number", "tuple_type",
        "mapping_type", "model_type", "model_attributes_type", "dict_type", "missing", "greater_than",
        "greater_than_equal", "less_than", "less_than_equal", "string_too_short", "string_too_long", "too_short",
        "literal_error",
    }
)  # fmt: skip
"""Errors of pydantic that the loader translates; others keep pydantic's own words."""


def with_plugins(context: Context | None, plugins: Plugins) -> Context:
    """Return a validation context in which a configuration may name plugins."""
    return {**(context or {}), _PLUGINS: plugins}


def plugins_of(context: Context | None) -> Plugins:
    """Return the plugins that a validation may use; by default installed ones."""
    found = (context or {}).get(_PLUGINS)
    return found if isinstance(found, Plugins) else Plugins()


def refuse_built_in(plugins: Plugins) -> None:
    """Raise if a plugin that was handed in has the name of a built-in one.

    Raises:
        PluginError: it has; the message names it.
    """
    for kind, named in plugins.given.items():
        for name, plugin in named.items():
            if name in BUILT_IN.get(kind, ()):
                raise plugin.error("has the name of a built-in one, which cannot be replaced")


# Names: built in, handed in, or installed.


def resolve(kind: Kind, name: str, plugins: Plugins) -> Plugin:
    """Return the plugin of a name, for validators.

    Raises:
        PydanticCustomError: there is none, or two distributions claim it; the message lists the known names.
    """
    try:
        found = plugins.find(kind, name)
    except PluginError as error:
        raise relayed(error) from None
    if found is None:
        raise bad_value(*unknown(kind, name, plugins))
    return found


def unknown(kind: Kind, name: str, plugins: Plugins) -> tuple[str, str]:
    """Return message and fix for an unknown name of a kind."""
    what, more = SINGULAR[kind], plugins.names(kind)
    built_in = BUILT_IN.get(kind, ())
    message = f"no {what} has this name: built in are {', '.join(map(repr, built_in))}"
    message += f"; plugins add {listed_names(more)}" if more else "; no plugin adds one"
    meant = did_you_mean(name, {*built_in, *more})
    package = f'install the package that provides it by an entry point of the group "{group_of(kind)}"'
    return message, f"{meant} Else {package}" if meant else f"write one of these, or {package}"


def _known_keys(name: str, plugins: Plugins) -> str:
    """Return the fix for an unknown key of a section ``accept``."""
    built_in, more = BUILT_IN["checks"], plugins.names("checks")
    meant = did_you_mean(name, {*built_in, *more})
    added = f"; plugins add {listed_names(more)}" if more else ""
    package = f'a package adds a check by an entry point of the group "{group_of("checks")}"'
    return meant or f"known here: {', '.join(sorted(built_in))}{added}; {package}"


def listed_names(names: Mapping[str, str]) -> str:
    """Format names of plugins, each with its distribution."""
    return ", ".join(f"{printable(name)} ({package or 'handed in'})" for name, package in sorted(names.items()))


def relayed(error: PluginError) -> PydanticCustomError:
    """Return a plugin's error as one that pydantic locates."""
    message, _, fix = str(error).rpartition("; ")
    return bad_value(message, fix)


def factory_of(plugin: Plugin) -> Any:
    """Return a plugin's factory, imported and checked, for validators.

    Raises:
        PydanticCustomError: it cannot be imported, or is no factory.
    """
    try:
        factory = plugin.load()
        if not callable(factory):
            raise plugin.error(f"is a {type(factory).__name__}, and not a class or function that can be called")
        options = getattr(factory, "Options", None)
        if options is not None and not (isinstance(options, type) and issubclass(options, BaseModel)):
            raise plugin.error("has Options that are no pydantic model: derive them from pydantic.BaseModel")
    except PluginError as error:
        raise relayed(error) from None
    return factory


# Options, validated by the plugin's own model.


class PluginSection(BaseModel):
    """Section of a plugin: the plugin, and its validated options.

    Attributes:
        options: instance of the plugin's ``Options``; None where it has none.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    options: Any = None
    _plugin: Plugin = PrivateAttr()

    @classmethod
    def of(cls, plugin: Plugin, options: BaseModel | None) -> PluginSection:
        """Return the section of a plugin with validated options."""
        made = cls(options=options)
        made._plugin = plugin
        return made

    @property
    def plugin(self) -> Plugin:
        """The plugin."""
        return self._plugin

    @serializer
    def _dumped(self, info: SerializationInfo) -> dict[str, Any]:
        """Dump the options alone, as a file has them."""
        return {} if self.options is None else cast(BaseModel, self.options).model_dump(mode=info.mode, by_alias=True)


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Value of a plugin's section before its validation.

    Attributes:
        kind: kind of the plugin.
        name: name of the plugin.
        value: what the file has.
        is_absent: True if the file has no such section.
    """

    kind: Kind
    name: str
    value: Any = None
    is_absent: bool = False


def with_strategies(data: Any, known: Iterable[str]) -> Any:
    """Mark the sections of a file that belong to its plugin strategies.

    Args:
        data: the sections.
        known: names of the built-in sections.
    """
    if not isinstance(data, Mapping):
        return data
    listed = data.get("strategies")
    named = [n for n in listed if isinstance(n, str)] if isinstance(listed, list | tuple) else []
    sections = set(known)
    plugins = [name for name in dict.fromkeys(named) if name not in BUILT_IN["strategies"] and name not in sections]
    marked: dict[Any, Any] = {}
    for key, value in data.items():
        if key in plugins:
            marked[key] = value if isinstance(value, PluginSection) else Unresolved("strategies", key, value)
        elif key in sections or not isinstance(value, PluginSection):  # else of a strategy that an overlay drops
            marked[key] = value
    return {**{name: Unresolved("strategies", name, is_absent=True) for name in plugins}, **marked}


def with_checks(data: Any, known: Iterable[str]) -> Any:
    """Mark the keys of a section ``accept`` that are plugin checks.

    ``true`` is a check with its default options, ``false`` is none.
    """
    if not isinstance(data, Mapping):
        return data
    built_in = set(known)
    return {
        key: value
        if key in built_in or isinstance(value, PluginSection) or not isinstance(key, str)
        else Unresolved("checks", key, {} if value is True else value)
        for key, value in data.items()
        if key in built_in or value is not False
    }


def plugin_section(value: Any, info: ValidationInfo) -> Any:
    """Validate a section that is not built in: a plugin's options.

    Raises:
        PydanticCustomError, PydanticKnownError, ValidationError: no plugin has its name, or the options are invalid.
    """
    if isinstance(value, PluginSection):
        return value
    if not isinstance(value, Unresolved):
        raise PydanticKnownError("extra_forbidden")
    plugins = plugins_of(info.context)
    try:
        plugin = plugins.find(value.kind, value.name)
    except PluginError as error:
        raise relayed(error) from None
    if plugin is None:
        if value.kind == "strategies":  # reported where the strategy is named
            return None
        raise bad_value("unknown key", _known_keys(value.name, plugins))
    if value.kind == "strategies":
        try:
            factory_of(plugin)
        except PydanticCustomError:  # likewise
            return None
    return PluginSection.of(plugin, options_of(plugin, value, info.context))


def options_of(plugin: Plugin, value: Unresolved, context: Context | None) -> BaseModel | None:
    """Validate options by the plugin's model.

    Raises:
        PydanticCustomError: it takes none, or its section is missing.
        ValidationError: an option is invalid; locations are relative to the options.
    """
    model: type[BaseModel] | None = getattr(factory_of(plugin), "Options", None)
    options = {} if value.value is None else value.value
    if model is None:
        if options != {}:
            raise bad_value(f"the {SINGULAR[plugin.kind]} takes no options", "remove them")
        return None
    try:
        return model.model_validate(options, context=context)
    except ValidationError as error:
        if value.is_absent:
            wanted = ", ".join(str(detail["loc"][0]) for detail in error.errors() if detail["loc"])
            fix = f"add the section {printable(plugin.name)} with {wanted or 'its options'}"
            message = f'the section of the strategy "{printable(plugin.name)}" is missing'
            raise PydanticCustomError(BAD_VALUE, "{message}; {fix}", {"message": message, "fix": fix}) from None
        raise ValidationError.from_exception_data(plugin.name, list(_lines(error, model))) from None


def under(key: str, error: PydanticCustomError | ValidationError) -> ValidationError:
    """Return errors of a value as errors of the key that holds it."""
    if isinstance(error, PydanticCustomError):
        return ValidationError.from_exception_data(key, [InitErrorDetails(type=error, loc=(key,), input=None)])
    lines = [
        InitErrorDetails(type=_kind(detail), loc=(key, *detail["loc"]), input=None, ctx=dict(detail.get("ctx", {})))
        for detail in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(key, lines)


def _kind(detail: ErrorDetails) -> str | PydanticCustomError:
    if detail["type"] == BAD_VALUE:
        return PydanticCustomError(BAD_VALUE, "{message}; {fix}", detail["ctx"])
    return detail["type"]


def _lines(error: ValidationError, model: type[BaseModel]) -> Iterator[InitErrorDetails]:
    for detail in error.errors(include_url=False):
        kind, place, context = detail["type"], detail["loc"], detail.get("ctx", {})
        of: str | PydanticCustomError
        if kind in _EXPLAINED:
            of = kind
        elif kind == BAD_VALUE:
            of = PydanticCustomError(BAD_VALUE, "{message}; {fix}", context)
        elif kind == "extra_forbidden":
            names = sorted(field.alias or name for name, field in model.model_fields.items()) if len(place) == 1 else []
            known = f"known here: {', '.join(names)}" if names else "remove it"
            of = bad_value("unknown key", did_you_mean(str(place[-1]), names) or known)
        else:
            # A validator's own message, or one of pydantic, which repeats no value.
            words = " ".join(detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ").split())
            of = bad_value(words or "cannot be used", "correct it")
        yield InitErrorDetails(type=of, loc=place, input=None, ctx=dict(context))


# Check of what is installed, for ``semroute config check``.


def clashes() -> Iterator[Problem]:
    """Yield warnings of installed plugins that can never be used.

    They have the name of a built-in one, or two distributions claim it.
    """
    for kind, names in BUILT_IN.items():
        for name, found in installed(kind).items():
            try:
                sole(found)
            except PluginError as error:
                yield Problem("warning", "", str(error))
            if name in names:
                yield Problem("warning", "", str(found[0].error("has the name of a built-in one and is never used")))
