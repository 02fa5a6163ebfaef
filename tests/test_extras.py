from __future__ import annotations

import pytest

from semroute._optional import require
from semroute.errors import MissingExtraError


def test_a_module_that_is_there_is_imported() -> None:
    assert require("json.decoder", what="x", extra="build").JSONDecoder is not None


def test_a_missing_module_names_the_feature_and_the_pip_command() -> None:
    with pytest.raises(
        MissingExtraError, match='drawing needs the extra "plot": pip install "semroute-router\\[plot\\]"'
    ) as caught:
        require("no_such_module_here", what="drawing", extra="plot")
    assert isinstance(caught.value, ImportError)
    assert caught.value.extra == "plot"
