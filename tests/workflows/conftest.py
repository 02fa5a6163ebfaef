from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from predictors.query_quality.query_heads import MODELS, made

from semroute.config import Config
from semroute.testing import FakeProvider


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workflows take the configuration, the log and the state of the working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SEMROUTE_INDEX", raising=False)


@pytest.fixture
def deployed(provider: FakeProvider) -> Config:
    """A configuration of two models behind the test double, without retries."""
    return Config.model_validate(
        {
            "deployments": [
                {
                    "name": f"{model}-1", "model": model, "upstream_model": model, "base_url": provider.base_url,
                    "price": {"input": 100, "output": 100},
                }
                for model in ("small", "large")
            ],
            "retries": {"same_place": 0},
        }
    )  # fmt: skip


@pytest.fixture
def outcomes() -> Path:
    """Outcomes of two models whose quality depends on the query, with ``prices.yaml`` beside them."""
    data = made(200, noise=0.02)
    Path("prices.yaml").write_text("small: [0.1, 0.4]\nlarge: [5, 15]\n")
    rows = []
    for query, quality in zip(data.queries, data.quality.tolist(), strict=True):
        cells = {
            model: {"quality": value, "output_tokens": 50, "input_tokens": 20}
            for model, value in zip(MODELS, quality, strict=True)
        }
        rows.append({"query": query, "task": query.split()[0], "outcomes": cells})
    return write_rows(Path("outcomes.jsonl"), rows)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
