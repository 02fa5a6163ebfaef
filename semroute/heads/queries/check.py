"""Whether the classifier of queries that a configuration names is there."""

from __future__ import annotations

from semroute.config import Config, Problem
from semroute.errors import ArtifactError
from semroute.heads.queries.folder import read_query_classifier


def check_query_classifier(config: Config) -> list[Problem]:
    """An error where it cannot be read or knows no model that it could choose; a warning where nobody asks it."""
    section = config.classifier
    if section.folder is None:
        return []
    if "classifier" not in config.strategies:
        return [
            Problem("warning", "classifier", 'it is not asked: strategies does not name "classifier"', "add it there")
        ]
    try:
        known = read_query_classifier(section.folder).models
    except ArtifactError as error:
        return [Problem("error", "classifier.folder", str(error))]
    placed = [deployment.model for deployment in config.deployments]
    wanted = [member for name in section.candidates or placed for member in config.members(name)]
    if wanted and not set(wanted) & set(known):
        names = ", ".join(dict.fromkeys(wanted))
        message = f"the classifier knows none of {names}; it knows {', '.join(known)}"
        return [Problem("error", "classifier.folder", message, "train it on outcomes of these models")]
    return []
