from __future__ import annotations

from pathlib import Path

import pytest
from predictors.answer_quality.answer_heads import made

from semroute.config import Config
from semroute.learn.answer_quality import train
from semroute.predictors.answer_quality import check_classifiers, write_classifier


@pytest.mark.slow
def test_every_classifier_that_is_missing_is_named_with_its_key(tmp_path: Path) -> None:
    write_classifier(train(made(60), ("shape",), folds=2).classifier, tmp_path / "there", report={})
    config = Config.model_validate(
        {
            "cascade": {
                "tiers": ["small", {"use": "medium", "accept": {"quality": str(tmp_path / "one")}}, "large"],
                "accept": {"quality": str(tmp_path / "there")},
            },
            "categories": {"law": {"cascade": {"tiers": ["small"], "accept": {"quality": str(tmp_path / "two")}}}},
        }
    )
    found = check_classifiers(config)
    assert [problem.key for problem in found] == [
        "cascade.tiers.1.accept.quality",
        "categories.law.cascade.accept.quality",
    ]
    assert all("semroute train-checks" in problem.message for problem in found)
    assert check_classifiers(Config.model_validate({"cascade": {"accept": {"quality": "nowhere"}}})) == []
