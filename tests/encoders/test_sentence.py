from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from semroute.encoders.export import DEFAULT_MODEL, load, name_of
from semroute.errors import EncoderError, MissingExtraError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

pytestmark = pytest.mark.slow


@pytest.mark.torch
def test_the_built_in_model_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert load(DEFAULT_MODEL).max_seq_length == 256


def test_a_loaded_model_is_given_back(sentence_transformer: SentenceTransformer) -> None:
    assert load(sentence_transformer) is sentence_transformer


def test_names_are_readable(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    assert name_of(DEFAULT_MODEL) == DEFAULT_MODEL
    assert name_of("org/model") == "org/model"
    assert name_of(tiny_model(tmp_path)) == "model"


@pytest.mark.torch
def test_an_unknown_model_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r'^unknown model ".*absent"') as caught:
        load(tmp_path / "absent")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_without_the_extra_the_pip_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r'pip install "semroute-router\[torch\]"'):
        load(DEFAULT_MODEL)


def test_reading_a_model_leaves_the_progress_bars_as_they_were(sentence_transformer: SentenceTransformer) -> None:
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
