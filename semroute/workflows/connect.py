"""Connection of a coding agent to the gateway, and its undoing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semroute._optional import require
from semroute.errors import InputError
from semroute.storage import atomic_write

KEY = "semroute"
"""Placeholder where an agent wants a key; the gateway on this machine asks for none."""
_ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Agent:
    """Coding agent, and where its configuration lies.

    Attributes:
        name: name on the command line.
        home_env: variable that moves its folder.
        folder: its folder below the user's home.
        file: its configuration file there; ``.toml`` or ``.json``.
        settings: settings for a gateway's address, by dotted path.
    """

    name: str
    home_env: str
    folder: str
    file: str
    settings: Callable[[str], Mapping[tuple[str, ...], object]]

    def path(self, home: Path, env: Mapping[str, str]) -> Path:
        """Return the configuration file."""
        moved = env.get(self.home_env)
        return (Path(moved) if moved else home / self.folder) / self.file


def _codex(address: str) -> Mapping[tuple[str, ...], object]:
    provider = {"name": "semroute", "base_url": f"{address}/v1", "wire_api": "responses"}
    return {
        ("model",): "auto",
        ("model_provider",): "semroute",
        ("model_providers", "semroute"): provider,
    }


def _claude_code(address: str) -> Mapping[tuple[str, ...], object]:
    return {
        ("model",): "claude-auto",
        ("env", "ANTHROPIC_BASE_URL"): address,
        ("env", "ANTHROPIC_AUTH_TOKEN"): KEY,
    }


def _opencode(address: str) -> Mapping[tuple[str, ...], object]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "semroute",
        "options": {"baseURL": f"{address}/v1", "apiKey": KEY},
        "models": {"auto": {"name": "auto"}},
    }
    return {("model",): "semroute/auto", ("provider", "semroute"): provider}


AGENTS: Mapping[str, Agent] = {
    agent.name: agent
    for agent in (
        # https://developers.openai.com/codex/config-reference
        Agent("codex", "CODEX_HOME", ".codex", "config.toml", _codex),
        # https://code.claude.com/docs/en/llm-gateway, .../settings
        Agent("claude-code", "CLAUDE_CONFIG_DIR", ".claude", "settings.json", _claude_code),
        # https://opencode.ai/docs/config, .../providers
        Agent("opencode", "OPENCODE_CONFIG_DIR", ".config/opencode", "opencode.json", _opencode),
    )
}


@dataclass(frozen=True, slots=True)
class ConfigurationChange:
    """Change of a file, shown before it is made.

    Attributes:
        path: the file.
        before: its text now; None where there is no file.
        after: its text then; None where the file goes.
    """

    path: Path
    before: str | None
    after: str | None
    _remembered: Path
    _memory: Mapping[str, Any] | None

    @property
    def diff(self) -> str:
        """Return the change as a unified diff; empty where nothing changes."""
        before, after = ((text or "").splitlines(keepends=True) for text in (self.before, self.after))
        return "".join(difflib.unified_diff(before, after, f"{self.path} (now)", f"{self.path} (then)"))

    def apply(self) -> None:
        """Write the file whole, after what undoing it needs.

        Raises:
            InputError: the file has changed since it was read.
        """
        if _text(self.path) != self.before:
            raise InputError(f"{self.path}: another program has changed it just now; try again")
        if self._memory is not None:
            _write(self._remembered, json.dumps(self._memory, indent=2) + "\n")
        if self.after is None:
            self.path.unlink(missing_ok=True)
        else:
            _write(self.path, self.after)
        if self._memory is None:
            self._remembered.unlink(missing_ok=True)


def connect(agent: Agent, address: str, *, home: Path, env: Mapping[str, str]) -> ConfigurationChange:
    """Return the change that connects an agent; nothing is written.

    Args:
        agent: one of :data:`AGENTS`.
        address: the gateway's, such as ``http://127.0.0.1:8080``.
        home: the user's home folder.
        env: the environment.

    Raises:
        InputError: the file cannot be read as what it should be; the message names it and the line.
        MissingExtraError: tomlkit is not installed, for a file of TOML.
    """
    path = agent.path(home, env)
    before = _text(path)
    document = _parsed(path, before)
    settings = agent.settings(address)
    remembered = _memory_of(path)
    memory = _read_memory(remembered)
    if memory is None:
        previous = [[list(keys), _looked_up(document, keys)] for keys in settings]
        memory = {"created": before is None, "settings": previous}
    for keys, value in settings.items():
        _set(document, keys, value, path)
    return ConfigurationChange(path, before, _dumped(path, document), remembered, memory)


def disconnect(agent: Agent, *, home: Path, env: Mapping[str, str]) -> ConfigurationChange:
    """Return the change that restores the settings of before.

    Other settings stay as they are now.

    Raises:
        InputError: the agent was not connected, or the file cannot be read.
    """
    path = agent.path(home, env)
    remembered = _memory_of(path)
    memory = _read_memory(remembered)
    if memory is None:
        raise InputError(f"{agent.name} is not connected: there is no {remembered}")
    before = _text(path)
    document = _parsed(path, before)
    for keys, value in memory["settings"]:
        if value == _ABSENT:
            _remove(document, keys)
        else:
            _set(document, tuple(keys), value["value"], path)
    is_ours = memory["created"] and not document
    return ConfigurationChange(path, before, None if is_ours else _dumped(path, document), remembered, None)


def _memory_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.before-semroute")


def _read_memory(path: Path) -> Any:
    text = _text(path)
    return None if text is None else json.loads(text)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def _parsed(path: Path, text: str | None) -> MutableMapping[str, Any]:
    if path.suffix == ".toml":
        toml = require("tomlkit", what="changing a file of TOML", extra="serve")
        try:
            document: MutableMapping[str, Any] = toml.parse(text or "")
        except toml.exceptions.ParseError as error:
            raise InputError(f"{path}:{error.line}: {error}; mend the file first") from None
        return document
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise InputError(
            f"{path}:{line}: it is not plain JSON ({error}); comments would be lost, so add the settings by hand"
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: it holds {type(value).__name__}, not an object")
    return value


def _dumped(path: Path, document: MutableMapping[str, Any]) -> str:
    if path.suffix == ".toml":
        toml = require("tomlkit", what="changing a file of TOML", extra="serve")
        return str(toml.dumps(document))
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _looked_up(document: Mapping[str, Any], keys: tuple[str, ...]) -> object:
    """Return a setting's value as ``{"value": …}``, or :data:`_ABSENT`."""
    holder: Any = document
    for key in keys:
        if not isinstance(holder, Mapping) or key not in holder:
            return _ABSENT
        holder = holder[key]
    return {"value": holder.unwrap() if hasattr(holder, "unwrap") else holder}


def _set(document: MutableMapping[str, Any], keys: tuple[str, ...], value: object, path: Path) -> None:
    holder: Any = document
    for key in keys[:-1]:
        holder = holder.setdefault(key, {})
        if not isinstance(holder, MutableMapping):
            raise InputError(f"{path}: {key} is no table; mend the file first")
    holder[keys[-1]] = value


def _remove(document: MutableMapping[str, Any], keys: list[str]) -> None:
    """Remove a setting, and the tables around it that are empty then."""
    holders: list[Any] = [document]
    for key in keys[:-1]:
        if not isinstance(holders[-1], Mapping) or key not in holders[-1]:
            return
        holders.append(holders[-1][key])
    for holder, key in zip(reversed(holders), reversed(keys), strict=True):
        if key in holder:
            del holder[key]
        if holder:
            return
