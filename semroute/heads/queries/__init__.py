"""A classifier of queries: how good each model's answer will be, predicted before any model is asked."""

from semroute.heads.queries.classifier import QueryClassifier
from semroute.heads.queries.folder import (
    check_classifier_folder,
    check_encoder,
    read_query_classifier,
    write_query_classifier,
)

__all__ = [
    "QueryClassifier",
    "check_classifier_folder",
    "check_encoder",
    "read_query_classifier",
    "write_query_classifier",
]
