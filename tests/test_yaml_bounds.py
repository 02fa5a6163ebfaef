from __future__ import annotations

import pytest
import yaml

from semroute import yaml_bounds
from semroute.yaml_bounds import MAX_DEPTH, YamlBoundsError, check_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
"""3^29 values in 30 lines."""


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML may have been built without libyaml; both parsers have to give the same."""
    monkeypatch.setattr(yaml_bounds, "_Loader", {"libyaml": yaml.CSafeLoader, "python": yaml.SafeLoader}[request.param])


def refusal(text: str, *, most_bytes: int = 1 << 20, most_nodes: int = 1000) -> tuple[str, int | None]:
    with pytest.raises(YamlBoundsError) as caught:
        check_yaml(text, most_bytes=most_bytes, most_nodes=most_nodes)
    return str(caught.value), None if caught.value.row is None else caught.value.row + 1


def deep(levels: int) -> str:
    return "k: " + "[" * (levels - 1) + "]" * (levels - 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "line"),
    [
        (deep(30_000), 1),
        ("a:\n " + "[" * 30_000, 2),
        ("- " * 30_000 + "x", 1),
        ("\n".join(" " * n + "a:" for n in range(1000)), MAX_DEPTH + 1),
        ("{a: " * 30_000, 1),
    ],
)
def test_depth_is_refused_at_the_line_where_it_passes_the_limit(text: str, line: int) -> None:
    message, at = refusal(text, most_nodes=10**6)
    assert message.startswith("malformed YAML: nested too deeply")
    assert at == line


def test_the_deepest_that_is_allowed_passes() -> None:
    check_yaml(deep(MAX_DEPTH), most_bytes=1000, most_nodes=1000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LAUGHS, 6),
        ("base: &b {k: [1, 2, 3, 4]}\n" + "".join(f"m{n}: {{<<: *b}}\n" for n in range(200)), 101),
        ("long: &l " + "x" * 50_000 + "\nall: [" + "*l, " * 10 + "]", 2),
    ],
)
def test_aliases_count_with_their_expansion(text: str, line: int) -> None:
    message, at = refusal(text)
    assert message.startswith("holds more than 1,000 values, aliases expanded")
    assert at == line


def test_an_anchor_that_is_written_anew_counts_as_what_it_is_now() -> None:
    check_yaml("a: &a [" + "x, " * 500 + "]\nb: &a y\nc: [" + "*a, " * 100 + "]\n", most_bytes=10_000, most_nodes=1000)


def test_an_alias_inside_of_its_own_anchor_is_refused() -> None:
    assert refusal("a: b\nm: &m\n  k: [*m]\n") == ("an alias is inside of its own anchor; remove it", 3)


def test_bytes_are_counted_and_not_characters() -> None:
    check_yaml("a: " + "e" * 900, most_bytes=1 << 10, most_nodes=100)
    assert refusal("a: " + "\u00e9" * 900, most_bytes=1 << 10)[0].startswith("is larger than")


@pytest.mark.parametrize("text", ["", "a: [b", "a: *unknown", "\x07", "--- a\n--- b\n", "key: @", "a: 'b"])
def test_invalid_yaml_is_left_to_the_parser(text: str) -> None:
    check_yaml(text, most_bytes=1000, most_nodes=10)
