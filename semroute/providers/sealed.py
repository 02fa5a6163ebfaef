"""Sealed items of Responses, which one deployment alone can open.

They are encrypted reasoning and compactions.

A client sends them back with every request of a conversation. Source:
https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items; their refusal:
https://github.com/openai/codex/issues/8145
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any
from weakref import WeakMethod

from semroute.providers.target import CallTarget

REFUSED = "invalid_encrypted_content"
"""Code of the 400 that refuses items which another account sealed."""

MOST = 20_000
"""Most items that are remembered: some hundred bytes each."""


class SealedItems:
    """Memory of sealed items by digest: who sealed and who refused them.

    Items that are not known, as after a restart, are sent to any deployment, which refuses what it cannot open.

    Args:
        most: most items that are remembered; the oldest are forgotten.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._owners: OrderedDict[bytes, str] = OrderedDict()
        self._refused: OrderedDict[tuple[bytes, str], None] = OrderedDict()
        self._lock = Lock()  # event loops of several threads share the adapter
        self._listeners: list[WeakMethod[Callable[[Mapping[str, str]], None]]] = []

    def note(self, target: CallTarget, items: object) -> None:
        """Note that a deployment sealed the items of an answer."""
        found = [sealed for item in _listed(items) if (sealed := _content(item)) is not None]
        with self._lock:
            for sealed in found:
                _remember(self._owners, _digest(sealed), _place(target), self._most)
            listeners = [listener for reference in self._listeners if (listener := reference()) is not None]
        if found:
            for listener in listeners:
                listener({_digest(sealed).hex(): _place(target) for sealed in found})

    def listen(self, listener: Callable[[Mapping[str, str]], None]) -> None:
        """Call a method with the items of each answer while its object lives.

        It gets their digests, with the deployment that sealed them, and does not raise.
        """
        with self._lock:
            self._listeners = [known for known in self._listeners if known() is not None]
            self._listeners.append(WeakMethod(listener))

    def unknown(self, body: Mapping[str, Any]) -> list[str]:
        """Return the digests of a body's sealed items of unknown owner."""
        found = [sealed for item in _listed(body.get("input")) if (sealed := _content(item)) is not None]
        with self._lock:
            return [digest.hex() for digest in map(_digest, found) if digest not in self._owners]

    def adopt(self, places: Mapping[str, str]) -> None:
        """Take over who sealed items, by their digests, from another process."""
        with self._lock:
            for digest, place in places.items():
                _remember(self._owners, bytes.fromhex(digest), place, self._most)

    def keep_own(self, body: dict[str, Any], target: CallTarget) -> None:
        """Remove from a body's input the items that a deployment cannot read.

        Those are what others sealed, what the deployment refused, and reasoning without content.

        Reasoning without content is known by its id alone, to a server that stored it: it stays where the client asks
        for storage.
        """
        is_stored = body.get("store") is True
        self._filter(body, lambda sealed: is_stored if sealed is None else self._may_open(sealed, _place(target)))

    def strip(self, body: dict[str, Any], target: CallTarget) -> bool:
        """Remove all sealed items, and remember that the deployment refused them.

        Returns:
            False if there are none.
        """
        found = [sealed for item in _listed(body.get("input")) if (sealed := _content(item)) is not None]
        with self._lock:
            for sealed in found:
                _remember(self._refused, (_digest(sealed), _place(target)), None, self._most)
        self._filter(body, lambda sealed: sealed is None)
        return bool(found)

    def _filter(self, body: dict[str, Any], keeps: Callable[[str | None], bool]) -> None:
        items = body.get("input")
        if not isinstance(items, list):
            return
        kept = [item for item in items if not _is_sealable(item) or keeps(_content(item))]
        if len(kept) < len(items):
            body["input"] = kept

    def _may_open(self, sealed: str, place: str) -> bool:
        digest = _digest(sealed)
        with self._lock:
            return self._owners.get(digest, place) == place and (digest, place) not in self._refused


PROCESS_ITEMS = SealedItems()
"""Items that this process knows of."""


def _listed(items: object) -> Iterable[object]:
    return items if isinstance(items, list) else ()


def _is_sealable(item: object) -> bool:
    return isinstance(item, Mapping) and (item.get("type") == "reasoning" or _content(item) is not None)


def _content(item: object) -> str | None:
    sealed = item.get("encrypted_content") if isinstance(item, Mapping) else None
    return sealed if isinstance(sealed, str) and sealed else None


def _place(target: CallTarget) -> str:
    """Return the identity of a deployment within a process.

    It differs between the configurations of one process, too.
    """
    return f"{target.deployment.name} at {target.deployment.base_url}"


def _digest(sealed: str) -> bytes:
    return hashlib.blake2b(sealed.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _remember(memory: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > most:
        memory.popitem(last=False)
