"""Every command that prints a table, at real terminals: nothing is wider than the line, no word is cut."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli.screens import cells, screens
from predictors.answer_quality.answer_heads import made as made_answers
from predictors.query_quality.query_heads import made as made_queries

from semroute.testing import FakeProvider, answer

pytestmark = pytest.mark.slow

pytest.importorskip("pty", reason="this system has no terminals")

EXAMPLES = {
    "Billing / Refunds (EU)": [
        "please refund my lost parcel", "I was charged twice this month", "send me the invoice of May",
        "why is there VAT on my bill", "the refund has not arrived", "change my payment method",
    ],
    "発注と請求に関するお問い合わせ": [
        "注文をキャンセルしたい", "請求書を再発行してください", "支払い方法を変更できますか",
        "注文番号がわかりません", "領収書を送ってください", "発注数量を間違えました",
    ],
    "🚚 delivery_and_tracking_of_international_parcels": [
        "where is my parcel now", "the courier never came to the door", "how long does shipping to Peru take",
        "my tracking number does not work", "the box arrived damaged and wet", "deliver it to my neighbour instead",
    ],
    "R&D": [
        "which paper describes this method", "run the experiment with another seed", "plot the loss of both models",
        "is this result significant", "label two hundred more samples", "write the abstract of our article",
    ],
}  # fmt: skip
SMALL, LARGE = "mistral-small-3.2-24b-instruct-2506-awq", "anthropic-claude-opus-4.5-thinking-64000"
PLACES = {SMALL: "azure-openai-europe-west-production-eu-01", LARGE: "vertex-anthropic-europe-west-4-prod-tier-2"}
QUERY = (
    "the courier says that my parcel was delivered yesterday, but nobody rang, and there is no card in my letter box"
)
WIDTHS = (60, 80, 200)


def _configuration(base_url: str) -> dict[str, object]:
    return {
        "index": "index",
        "deployments": [
            {"name": name, "model": model, "base_url": base_url, "price": {"input": price, "output": 2 * price}}
            for (model, name), price in zip(PLACES.items(), (1.0, 10.0), strict=True)
        ],
        "cascade": {"tiers": [SMALL, LARGE]},
        "fallback": {"models": [SMALL, LARGE]},
        "rules": [
            {"name": "parcels of our largest customer go to the best model", "when": {"keywords": ["zebra"]},
             "use": [LARGE]},
        ],
        "trial": {"policy": "tried.yaml", "share": 0.0},
    }  # fmt: skip


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with FakeProvider() as provider:
        usage = {"input_tokens": 1000, "output_tokens": 100}
        good, bad = answer("It is in the depot.", **usage), answer("I'm sorry, but I can't help with that.", **usage)
        provider.script(*[good, bad] * 100)
        yield provider.base_url


def _world(folder: Path, base_url: str) -> Path:
    with (folder / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("text", "label"))
        rows.writerows((text, name) for name, texts in EXAMPLES.items() for text in texts)
    with (folder / "labelled.jsonl").open("w", encoding="utf-8") as file:
        for name, texts in EXAMPLES.items():
            for number, text in enumerate(texts):
                category = next(iter(EXAMPLES)) if number == 5 else name
                file.write(json.dumps({"query": f"{text}, and then?", "category": category}) + "\n")
    (folder / "queries.jsonl").write_text("".join(json.dumps({"query": q}) + "\n" for q in (QUERY, "領収書", "", "ok")))
    (folder / "semroute.yaml").write_text(yaml.safe_dump(_configuration(base_url)))
    (folder / "tried.yaml").write_text(yaml.safe_dump({"strategies": ["rules"], "fallback": {"models": [LARGE]}}))
    (folder / "wrong.yaml").write_text(
        yaml.safe_dump({**_configuration(base_url), "cascade": {"tiers": [SMALL, SMALL], "max_usd": -1}})
    )
    return folder


LIGHT: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "import": (["import", "texts.csv", "--text", "text", "--label", "label", "--out", "categories"],
               ("category", "examples", "file")),
    "build-index": (["build-index", "categories", "--out", "index", "--no-head"],
                    ("category", "examples", "prototypes", "threshold", "from", "models")),
    "inspect": (["inspect"], ("category", "prototypes")),
    "evaluate": (["evaluate", "labelled.jsonl"], ("category", "precision", "recall", "F1", "queries")),
    "tune": (["tune", "labelled.jsonl", "--dry-run"], ("category", "old", "new", "change", "figure", "after*")),
    "route": (["route", QUERY], ("similarity", "category", "example")),
    "route --file": (["route", "--file", "queries.jsonl"], ("category", "model", "score", "confidence", "query")),
    "rules test": (["rules", "test", QUERY], ("rule", "outcome", "why")),
    "rules test --file": (["rules", "test", "--file", "queries.jsonl"], ("rules met", "query")),
    "config check": (["config", "check", "--config", "wrong.yaml"], ("severity", "key", "problem")),
    "providers check": (["providers", "check"], ("deployment", "ms", "model", "answers as", "capabilities")),
    "ask": (["ask", QUERY], ()),
    "ask again": (["ask", "--stream", "the refund has not arrived"], ()),
    "providers status": (["providers", "status"], ("deployment", "calls", "failed", "running", "USD", "breaker")),
    "log tail": (["log", "tail"], ("id", "time, UTC", "category", "model", "cost, USD", "feedback", "query")),
    "log info": (["log", "info"], ()),
    "report": (["report"], ("answers", "p50, ms", "model", "tokens", "USD", "paid", "check", "strategy")),
    "advise": (["advise"], ("category", "escalated", "tier", "accepted")),
    "trial status": (["trial", "status"], ("share, decided by", "queries", "escalated")),
}  # fmt: skip


@pytest.fixture(scope="module", params=WIDTHS)
def light(
    request: pytest.FixtureRequest, base_url: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[str, tuple[int, list[str]]]]:
    folder = _world(tmp_path_factory.mktemp("light"), base_url)
    found = screens([command for command, _ in LIGHT.values()], request.param, folder, NO_PROXY="127.0.0.1")
    return request.param, dict(zip(LIGHT, found, strict=True))


@pytest.mark.parametrize("name", LIGHT)
def test_a_table_fits_the_terminal_has_headers_and_cuts_no_word(
    name: str, light: tuple[int, dict[str, tuple[int, list[str]]]]
) -> None:
    width, found = light
    code, lines = found[name]
    assert code == {"route --file": 2, "config check": 1}.get(name, 0), lines
    _check(lines, width, LIGHT[name][1])


def _check(lines: list[str], width: int, headers: tuple[str, ...]) -> None:
    print("\n".join(lines))
    assert max(map(cells, lines)) <= width
    words = [word.removesuffix(":") for word in " ".join(lines).split()]
    for header in headers:
        for word in header.split():
            assert word in words, header
    for line in lines:
        assert not re.search(r"\w(\.\.\.|…)", line), line


HEAVY: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "train": (["train", "outcomes.jsonl", "--prices", "prices.yaml", "--out", "c", "--head", "linear", "--head",
               "neighbours"], ("head", "squared error", "weight", "model", "known", "quality", "AUROC")),
    "predict": (["predict", "queries.jsonl", "--classifier", "c"], ("model", "quality", "cost, USD", "query")),
    "train-checks": (["train-checks", "answers.jsonl", "--out", "checks", "--folds", "3"],
                     ("threshold", "accepted", "of them acceptable", "bad ones caught")),
    "evaluate-policy": (["evaluate-policy", "outcomes.jsonl", "--prices", "prices.yaml", "--resamples", "100"],
                        ("model", "quality", "role", "policy", "AIQ", "arena", "AUROC", "ECE", "difference")),
    "tune-policy": (["tune-policy", "outcomes.jsonl", "--prices", "prices.yaml", "--out", "policy", "--min-quality",
                     "0.5", "--head", "linear"], ("policy", "USD for 1,000", "quality", "of strongest", "saved")),
    "collect": (["collect", "--queries", "queries.jsonl", "--out", "collected.jsonl", "--max-usd", "1"], ()),
}  # fmt: skip


@pytest.fixture(scope="module")
def heavy(
    base_url: str, routing_index: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, list[str]]]:
    folder = _world(tmp_path_factory.mktemp("heavy"), base_url)
    data = made_queries(300, noise=0.02)
    with (folder / "outcomes.jsonl").open("w") as file:
        for number, (query, quality) in enumerate(zip(data.queries, data.quality.tolist(), strict=True)):
            outcomes = {
                model: {"quality": value, "output_tokens": 50, "input_tokens": 20}
                for model, value in zip((SMALL, LARGE), quality, strict=True)
            }
            task = list(EXAMPLES)[number % 3]
            file.write(json.dumps({"query": query, "task": task, "outcomes": outcomes}) + "\n")
    rows = made_answers(120, logprobs=False, noise=0.0)
    with (folder / "answers.jsonl").open("w") as file:
        for query, text, good in zip(rows.queries, rows.answers, np.asarray(rows.acceptable), strict=True):
            cell = {"quality": float(good), "response": text}
            file.write(json.dumps({"query": query, "outcomes": {SMALL: cell}}) + "\n")
    (folder / "prices.yaml").write_text(f"{SMALL}: [0.1, 0.4]\n{LARGE}: [5, 15]\n")
    more = {"NO_PROXY": "127.0.0.1", "SEMROUTE_INDEX": str(routing_index)}
    found = screens([command for command, _ in HEAVY.values()], 80, folder, **more)
    return dict(zip(HEAVY, found, strict=True))


@pytest.mark.parametrize("name", HEAVY)
def test_what_learns_from_outcomes_fits_80_columns_too(name: str, heavy: dict[str, tuple[int, list[str]]]) -> None:
    code, lines = heavy[name]
    assert code == 0, lines
    _check(lines, 80, HEAVY[name][1])
