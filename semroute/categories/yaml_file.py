"""A category in YAML: ``name``, ``description``, ``models``, ``threshold`` and ``examples``."""

from __future__ import annotations

import difflib

import yaml

from semroute.categories.foreign import import_hint
from semroute.categories.notes import Notes, shortened
from semroute.categories.parts import CategoryFile, Example
from semroute.categories.rows import usable
from semroute.categories.yaml_nodes import YamlFile, is_plain
from semroute.texts.names import name_problem, normalize_name

KEYS = ("description", "models", "threshold", "examples", "name")
LONGEST_KEY = 40
"""Characters of an unknown key that are compared with the known ones."""

_TAG = "tag:yaml.org,2002:"
_STRING = f"{_TAG}str"
_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "null", "timestamp": "a date"}


def read_yaml(text: str, notes: Notes) -> CategoryFile:
    """Read a category; whatever cannot be used is left out and noted as a problem."""
    file = YamlFile(text)
    root = file.compose(notes.problem)
    if root is None:
        if not notes.problems:
            notes.problem('is empty; give it "description", "models" and "examples"')
        return CategoryFile()
    if not isinstance(root, yaml.MappingNode):
        notes.problem(f"must be a mapping with the keys {', '.join(KEYS)}", file.line(root))
        return CategoryFile()
    foreign = _foreign(root)
    if foreign is not None:
        notes.problem(f"{foreign} is not read as a category; {import_hint(notes.path)}", file.line(root))
        return CategoryFile()
    return _CategoryReader(file, notes).category(root)


def _foreign(root: yaml.MappingNode) -> str | None:
    """What holds several categories, in other programs' formats; None for a category."""
    keys = {key.value: value for key, value in root.value if isinstance(key, yaml.ScalarNode)}
    if keys.keys() & {"nlu", "rasa_nlu_data"}:
        return "Rasa's training data"
    if isinstance(keys.get("routes"), yaml.SequenceNode):
        return "a file of routes"
    lists = [value for value in keys.values() if isinstance(value, yaml.SequenceNode)]
    if lists and len(lists) == len(root.value) and not keys.keys() & set(KEYS):
        return "a list for each of several categories"
    return None


class _CategoryReader:
    """Reads the values of one file."""

    def __init__(self, file: YamlFile, notes: Notes) -> None:
        self.file = file
        self.notes = notes

    def category(self, root: yaml.MappingNode) -> CategoryFile:
        nodes = self._values(root)
        name, description = nodes.get("name"), nodes.get("description")
        models = nodes.get("models")
        threshold = nodes.get("threshold")
        examples = nodes.get("examples")
        return CategoryFile(
            examples=() if examples is None else self._examples(examples),
            description="" if description is None else (self._string(description, "description") or ""),
            models=() if models is None else self._models(models),
            threshold=None if threshold is None else self._threshold(threshold),
            name=None if name is None else self._name(name),
        )

    def _values(self, root: yaml.MappingNode) -> dict[str, yaml.Node]:
        """The value of each known key; the first where a key is repeated."""
        values: dict[str, yaml.Node] = {}
        for key, value in root.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            if name not in KEYS:
                near = difflib.get_close_matches(name[:LONGEST_KEY], KEYS, n=1)
                fix = f'did you mean "{near[0]}"?' if near else f"the keys are {', '.join(KEYS)}"
                self._problem(key, f"unknown key {shortened(name)}; {fix}")
            elif name in values:
                self._problem(key, f'the key "{name}" is written twice; keep one of the two')
            else:
                values[name] = value
        return values

    def _name(self, node: yaml.Node) -> str | None:
        name = self._string(node, "name")
        if name is None:
            return None
        name = normalize_name(name)
        problem = name_problem(name)
        if problem is not None:
            self._problem(node, f"name: {problem}")
        return name

    def _examples(self, node: yaml.Node) -> tuple[Example, ...]:
        if isinstance(node, yaml.ScalarNode) and not node.value:
            return ()  # said once, for every format, by the caller: there are no examples
        found = self._strings(node, "examples", "example")
        for item, _ in found:
            comment = self.file.comment_after(item)
            if comment is not None:
                message = f"examples: YAML takes {shortened(comment)} for a comment; where it is part of the example"
                self.notes.warn(f"{message}, put the whole in quotes", self.file.line(item))
        return tuple(Example(text, self.file.line(item)) for item, text in found)

    def _models(self, node: yaml.Node) -> tuple[str, ...]:
        models: dict[str, None] = {}
        for item, model in self._strings(node, "models", "model"):
            if model in models:
                self._problem(item, f'models: "{model}" is named twice; keep one of the two')
            models[model] = None
        if isinstance(node, yaml.SequenceNode) and not node.value:
            self._problem(node, "models: names no model; name one, or remove the key")
        return tuple(models)

    def _threshold(self, node: yaml.Node) -> float | None:
        try:
            # YAML 1.1 takes 1e-1, which has no point, for text.
            value = float(node.value) if is_plain(node) else None
        except ValueError:
            value = None
        if value is not None and -1 <= value <= 1:
            return value
        fix = "write it without quotes, or remove the key to leave it to the build"
        self._problem(node, f"threshold: must be a number from -1 to 1; {fix}")
        return None

    def _strings(self, node: yaml.Node, key: str, noun: str) -> list[tuple[yaml.Node, str]]:
        if not isinstance(node, yaml.SequenceNode):
            self._problem(node, f'{key}: must be a list; write each {noun} in a line of its own after "- "')
            return []
        found = []
        for item in node.value:
            text = self._string(item, key)
            if text is not None:
                text = usable(text, f"{key}: the {noun}", self.file.line(item), self.notes.problem)
            if text is not None:
                found.append((item, text))
        return found

    def _string(self, node: yaml.Node, key: str) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            what = "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
            self._problem(node, f'{key}: {what} where text is expected; put text that holds ": " or brackets in quotes')
            return None
        text: str = node.value
        if node.tag != _STRING:
            kind = _KINDS.get(node.tag.removeprefix(_TAG), f"of the type {node.tag}")
            what = f"is {kind} to YAML; put it in quotes" if text else "is empty; write it, or remove it"
            self._problem(node, f"{key}: {shortened(text) if text else 'an item'} {what}")
            return None
        return text

    def _problem(self, node: yaml.Node, message: str) -> None:
        self.notes.problem(message, self.file.line(node))
