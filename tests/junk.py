"""Values that no caller should hand over, and requests in which one value was replaced by such a one."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
from collections import OrderedDict, UserDict, UserList
from collections.abc import Callable, Iterator
from random import Random
from types import MappingProxyType
from typing import Any

import numpy as np

from semroute.dispatch import Constraints
from semroute.types import Request, Tool


class Raising:
    """Whatever is asked of it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class RaisingDict(dict[Any, Any]):
    """A dict whose reading raises."""

    def __iter__(self) -> Iterator[Any]:
        raise KeyError

    def __getitem__(self, key: Any) -> Any:
        raise KeyError(key)

    def items(self) -> Any:
        raise OSError

    def get(self, key: Any, default: Any = None) -> Any:
        raise OSError


class RaisingList(list[Any]):
    """A list whose reading raises."""

    def __iter__(self) -> Iterator[Any]:
        raise OSError

    def __len__(self) -> int:
        raise OSError


class RaisingText(str):
    """A text whose methods raise."""

    def __len__(self) -> int:
        raise OSError

    def encode(self, *args: Any, **options: Any) -> bytes:
        raise OSError

    def isascii(self) -> bool:
        raise OSError

    def __str__(self) -> str:
        raise OSError

    def __bool__(self) -> bool:
        raise OSError


class RaisingInt(int):
    """A number that cannot be read."""

    def __int__(self) -> int:
        raise OSError

    def __le__(self, other: Any) -> bool:
        raise OSError

    __ge__ = __lt__ = __gt__ = __le__


class Model:
    """Looks like a pydantic model, and is not well."""

    def model_dump(self, **options: Any) -> Any:
        return self


class Colour(enum.StrEnum):
    """A text of another type."""

    RED = "red"


def _cyclic_list() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def _cyclic_dict() -> dict[str, Any]:
    made: dict[str, Any] = {"role": "user", "content": "x"}
    made["again"] = [made]
    return made


def _deep(levels: int) -> Any:
    made: Any = "end"
    for level in range(levels):
        made = [made] if level % 2 else {"properties": made}
    return made


def _doubled() -> Any:
    made: Any = []
    for _ in range(60):
        made = [made, made]
    return made


ATOMS: tuple[Callable[[], Any], ...] = (
    lambda: None, lambda: True, lambda: 0, lambda: -1, lambda: 10**5000, lambda: -(10**30), lambda: 3.5,
    lambda: float("nan"), lambda: float("inf"), lambda: 1e308, lambda: "", lambda: "x", lambda: "\ud800 lone",
    lambda: "a\0b", lambda: "é" * 50, lambda: "x" * 100_000, lambda: b"bytes", lambda: bytearray(b"x"),
    lambda: memoryview(b"x"), lambda: {1, 2}, lambda: frozenset({"a"}), lambda: (n for n in "ab"), lambda: iter([1]),
    object, Raising, lambda: RaisingDict(role="user", content="x"), lambda: RaisingList(["x"]),
    lambda: RaisingText("x"), lambda: RaisingInt(3), Model, lambda: Colour.RED, lambda: Colour, lambda: len,
    lambda: decimal.Decimal("1.5"), lambda: fractions.Fraction(1, 3), lambda: datetime.datetime(2026, 1, 1),
    lambda: np.float32(0.5), lambda: np.int64(7), lambda: np.array(["a", "b"]), lambda: np.str_("numpy"),
    lambda: range(3), lambda: 1 + 2j, lambda: OrderedDict(a=1), lambda: UserDict(role="user", content="x"),
    lambda: UserList(["x"]), lambda: MappingProxyType({"role": "user", "content": "x"}), _cyclic_list, _cyclic_dict,
    lambda: _deep(90), lambda: _deep(101), lambda: _deep(5000), _doubled, list, dict, tuple, lambda: {1: 2},
    lambda: {None: 1}, lambda: {"": ""}, lambda: [[]], lambda: "http://[", lambda: "data:;base64,\udfff",
    lambda: {"url": "http://["}, lambda: {"url": "data:image/png;base64,\ud800"}, lambda: {"type": ["object"]},
    lambda: {"$ref": "#"}, lambda: {"type": "text", "text": "x"}, lambda: Request.__new__(Request),
    lambda: Tool("f", parameters={"type": "object"}),
)  # fmt: skip


def junk(random: Random, depth: int = 0) -> Any:
    """Any value: a strange one, or a structure of such."""
    if depth > 3 or random.random() < 0.7:
        return random.choice(ATOMS)()
    items = [junk(random, depth + 1) for _ in range(random.randint(0, 3))]
    if random.random() < 0.5:
        return items
    keys = ("role", "content", "type", "text", "image_url", "url", "function", "name", "enum", "a.b", "\ud800")
    return {random.choice(keys): item for item in items}


def conversation() -> list[Any]:
    """Messages of every kind that OpenAI knows."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "auto"}}
    return [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "how do I boil an egg"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4 minutes"},
        {"role": "user", "content": "and for a soft one, in the same pot"},
    ]


def spoilt(random: Random, value: Any) -> Any:
    """A structure in which one value, or one key, was replaced."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.15:
        return junk(random)
    if isinstance(value, list):
        place = random.randrange(len(value))
        return [spoilt(random, item) if n == place else item for n, item in enumerate(value)]
    key = random.choice(list(value))
    if random.random() < 0.1:
        return {**value, random.choice(("extra", "name", "refusal", "tool_calls", "tool_call_id")): junk(random)}
    return {name: spoilt(random, item) if name == key else item for name, item in value.items()}


def request(random: Random) -> Any:
    """A request with a spoilt field, or something in its place."""
    if random.random() < 0.1:
        return junk(random)
    if random.random() < 0.2:
        return spoilt(random, conversation())
    schema = {"type": "object", "properties": {"a": {"type": "integer", "enum": [1, 2]}}, "required": ["a"]}
    tool = {"name": "look", "description": "looks", "parameters": schema}
    fields: dict[str, Any] = {
        "messages": tuple(conversation()),
        "max_tokens": 10,
        "temperature": 0.5,
        "stop": ("END",),
        "tools": (Tool(**tool),),
        "tool_choice": "auto",
        "json_schema": schema,
        "logprobs": True,
        "metadata": {"tenant": "a"},
    }
    chosen = {name: fields[name] for name in fields if name == "messages" or random.random() < 0.4}
    for name in random.sample(sorted(chosen), k=random.choice((0, 1, 1, 1, 2)) % (len(chosen) + 1)):
        if name == "messages":
            chosen[name] = junk(random) if random.random() < 0.3 else spoilt(random, conversation())
            if type(chosen[name]) is list and random.random() < 0.5:
                chosen[name] = tuple(chosen[name])
        elif name == "tools" and random.random() < 0.6:
            changed = random.choice(sorted(tool))
            chosen[name] = (Tool(**{**tool, changed: spoilt(random, tool[changed])}),)
        else:
            chosen[name] = spoilt(random, chosen[name])
    return Request(**chosen)


def limits(random: Random) -> Any:
    """Constraints with spoilt fields, or something in their place."""
    kind = random.random()
    if kind < 0.6:
        return None
    if kind < 0.65:
        return junk(random)
    names = ("model", "deployment", "allow", "deny", "regions", "max_usd", "deadline_s", "wants")
    return Constraints(**{name: junk(random) for name in random.sample(names, k=random.randint(1, 2))})
