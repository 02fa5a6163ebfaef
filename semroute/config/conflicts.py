"""Keys of ``semroute.yaml`` that contradict each other.

Works on plain values of any shape, so that the loader can report contradictions together with the values that are wrong
in themselves; what has not the right shape is not judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from semroute.config.problem import Problem, dotted, nearest


def conflicts(data: object) -> list[Problem]:
    """Two deployments of one name; a deployment of a model that ``models``, where it lists any, does not list."""
    if not isinstance(data, Mapping):
        return []
    deployments = list(_deployments(data.get("deployments")))
    return [*_repeated_names(deployments), *_unlisted_models(deployments, data.get("models"))]


def _deployments(data: object) -> Iterator[tuple[int, Mapping[object, object]]]:
    if isinstance(data, Sequence) and not isinstance(data, str):
        yield from ((position, item) for position, item in enumerate(data) if isinstance(item, Mapping))


def _repeated_names(deployments: list[tuple[int, Mapping[object, object]]]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for position, deployment in deployments:
        name = deployment.get("name")
        if not isinstance(name, str):
            continue
        if name in first:
            key = dotted(("deployments", position, "name"))
            message = f'"{dotted([name])}" is already the name of deployments.{first[name]}'
            yield Problem("error", key, message, "give each deployment its own name")
        first.setdefault(name, position)


def _unlisted_models(deployments: list[tuple[int, Mapping[object, object]]], models: object) -> Iterator[Problem]:
    if not isinstance(models, Mapping) or not models:
        return
    listed = [name for name in models if isinstance(name, str)]
    for position, deployment in deployments:
        model = deployment.get("model")
        if isinstance(model, str) and model not in models:
            meant = nearest(model, listed)
            fix = f'did you mean "{dotted([meant])}"?' if meant else f'add "{dotted([model])}: {{}}" under models'
            key = dotted(("deployments", position, "model"))
            yield Problem("error", key, f'unknown model "{dotted([model])}": models does not list it', fix)
