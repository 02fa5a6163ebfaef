"""A classifier of answers: the probability that an answer to a query is acceptable, from the two texts alone."""

from semroute.heads.answers.classifier import AnswerClassifier
from semroute.heads.answers.folder import read_classifier, write_classifier

__all__ = ["AnswerClassifier", "read_classifier", "write_classifier"]
