"""What a judge is told of the candidates."""

from __future__ import annotations

from semroute.config import Config
from semroute.strategies.judge import descriptions

CONFIG = Config.model_validate(
    {
        "models": {
            "small": {"description": "quick and  cheap;\nfor small talk", "price": {"input": 0.15, "output": 0.6}},
            "large": {"strengths": {"tools": 0.9}},
            "claude": {"strengths": {"tools": 0.5, "vision": 0.8}},
            "odd": {},
        },
        "groups": {"frontier": ["large", "claude"]},
        "deployments": [
            {"name": "a", "model": "large", "base_url": "http://x/v1", "price": {"input": 5, "output": 15}},
            {"name": "b", "model": "claude", "base_url": "http://x/v1", "price": {"input": 3, "output": 15}},
        ],
    }
)


def test_the_users_words_come_first_on_one_line() -> None:
    told = descriptions(["small"], CONFIG, {"chat": ("small",)})["small"]
    assert told == (
        "quick and cheap; for small talk; costs 0.15 USD per million tokens read and 0.6 per million written"
    )


def test_without_words_price_strengths_and_categories_speak() -> None:
    told = descriptions(["frontier", "large"], CONFIG, {"code": ("frontier",), "law": ("large", "frontier")})
    assert told["frontier"] == (
        "costs 3 USD per million tokens read and 15 per million written; strengths from 0 to 1: tools 0.9, vision 0.8; "
        "used for code, law"
    )
    assert "used for law" in told["large"]


def test_of_what_nothing_is_known_that_is_said() -> None:
    assert descriptions(["odd"], CONFIG, {}) == {"odd": "nothing is known of it"}
