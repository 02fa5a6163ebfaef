"""Default encoder: a sentence transformer as an int8 ONNX graph.

ONNX Runtime runs it on the CPU. The tokenizer, the safety check of ONNX files and the graph runner
(:class:`TextGraph`) are here too. It needs neither torch nor sentence-transformers; :mod:`semroute.encoders.export`
makes its files.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute import forks
from semroute.errors import EncoderError
from semroute.storage import read_json
from semroute.text.normalise import head_and_tail, prepare
from semroute.types import Matrix

# Tokenisation, with the ``tokenizers`` package alone.

MAX_BYTES = 128 << 20
"""Size limit of a tokenizer file; one for a vocabulary of 260,000 tokens in a hundred languages has 35 MB."""

_PLAIN_WORD = re.compile(r"(?<![^\W_])[A-Za-z]{1,32}(?![^\W_])")
"""Word that every tokenizer with a token for each letter can spell, if need be letter by letter."""

_WITH_UNKNOWN_TOKEN = frozenset({"WordPiece", "WordLevel", "BPE"})
"""Models of the library that expose their unknown token; ``Unigram`` has an id, which it hides."""

_SAMPLE_TOKENS = 16
"""Tokens, at 16 characters each, of the ends of a long text that are tested for unknown words."""


class Tokens:
    """Tokenizer that returns at most ``max_tokens`` ids a text.

    Args:
        path: a Hugging Face ``tokenizer.json``.
        max_tokens: ids kept of a text, special tokens included: head and tail of a longer one.
        special: true to add the special tokens ([CLS], [SEP]).

    Raises:
        EncoderError: the file is missing or is not a tokenizer.
    """

    def __init__(self, path: Path, max_tokens: int, *, special: bool = True) -> None:
        from tokenizers import Tokenizer

        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception from Rust
            raise EncoderError(f"{path}: not a usable tokenizer.json ({error})") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._path = path
        self._special = special
        self._max_tokens = max_tokens
        self._batches = True
        forks.in_child(self, Tokens._after_fork)

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens in the vocabulary, added ones included."""
        return int(self._tokenizer.get_vocab_size())

    def __call__(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Return the ids of each text; the empty list where there are none."""
        prepared = prepare(texts, self._max_tokens)
        encode = self._tokenizer
        if len(prepared) == 1 or not self._batches:  # handing one over to the pool of threads costs more than it saves
            encodings = [encode.encode(text, add_special_tokens=self._special) for text in prepared]
        else:
            encodings = encode.encode_batch_fast(prepared, add_special_tokens=self._special)
        return [head_and_tail(encoding.ids, self._max_tokens) for encoding in encodings]

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text if the vocabulary has none of its words.

        Such texts have no token, or only the unknown one and punctuation; they would all get the same vector, whatever
        their content: emoji, or scripts that the vocabulary does not cover.

        Raises:
            EncoderError: the tokenizer's file is gone.
        """
        return [not self._is_spelt(text) and self._is_unknown(text) for text in texts]

    def unknown_share(self, text: str) -> float:
        """Return the share of a text's letters that the vocabulary does not cover."""
        sample, encoding = self._sample(text)
        unknown = total = 0
        for token_id, (start, end) in _spans(encoding):
            letters = sum(map(str.isalpha, sample[start:end]))
            total += letters
            unknown += letters if token_id == self._unknown_id else 0
        return unknown / total if total else 0.0

    def inner_share(self, text: str) -> float:
        """Return the share of a text's tokens that continue a word.

        It is low in the languages whose words the vocabulary was made of.
        """
        words = self._sample(text)[1].word_ids
        return 1 - len(set(words)) / len(words) if words else 0.0

    def per_character(self, text: str) -> float:
        """Return the number of a text's tokens for each visible character.

        It is low in the languages whose words the vocabulary was made of, if they are written with an alphabet.
        """
        sample, encoding = self._sample(text)
        return len(encoding.ids) / max(1, sum(not character.isspace() for character in sample))

    def _sample(self, text: str) -> tuple[str, Any]:
        """Return the ends of a text, cleaned, and their tokens."""
        (sample,) = prepare([text], _SAMPLE_TOKENS)
        return sample, self._tokenizer.encode(sample, add_special_tokens=False)

    def _is_spelt(self, text: str) -> bool:
        return self._spells_letters and _PLAIN_WORD.search(text) is not None

    def _is_unknown(self, text: str) -> bool:
        (sample,) = prepare([text], _SAMPLE_TOKENS)
        encoding = self._tokenizer.encode(sample, add_special_tokens=False)
        if not encoding.ids:
            return True
        if self._unknown_id is None:
            return False
        known_pieces = [
            sample[start:end] for token_id, (start, end) in _spans(encoding) if token_id != self._unknown_id
        ]
        unknown_pieces = [
            sample[start:end] for token_id, (start, end) in _spans(encoding) if token_id == self._unknown_id
        ]
        if not unknown_pieces or any(map(_has_letter, known_pieces)):
            return False
        # "2 + 2 = 🤔" is known by its digits, but five digits do not make a text in an unknown script known.
        return any(map(_has_letter, unknown_pieces)) or not any(
            character.isalnum() for span in known_pieces for character in span
        )

    @cached_property
    def _unknown_id(self) -> int | None:
        model = self._tokenizer.model
        if type(model).__name__ not in _WITH_UNKNOWN_TOKEN:
            return unknown_id(self._path)
        # The library has read the file already; to read it again would be most of a process's first decision.
        token = model.unk_token
        return None if token is None else model.token_to_id(token)

    @cached_property
    def _spells_letters(self) -> bool:
        """True if every word of Latin letters has tokens.

        Where nothing is unknown, tokens may be bytes.
        """
        if self._unknown_id is None:
            return True
        inner = getattr(self._tokenizer.model, "continuing_subword_prefix", None) or ""
        is_by_word = type(self._tokenizer.model).__name__ == "WordLevel"
        tokens = (token for letter in ascii_lowercase for token in (letter, inner + letter))
        return not is_by_word and all(self._tokenizer.token_to_id(token) is not None for token in tokens)

    def _after_fork(self) -> None:
        # The library's pool of threads is the parent's; TOKENIZERS_PARALLELISM=true would make it wait for that.
        self._batches = False


_UNIGRAM_UNKNOWN = re.compile(rb'"model"\s*:\s*{\s*"type"\s*:\s*"Unigram"\s*,\s*"unk_id"\s*:\s*(\d{1,9})\s*,')
"""Beginning of a Unigram model in a ``tokenizer.json`` as the library writes it. No word of a vocabulary looks like it:
there, quotation marks are escaped."""


def _spans(encoding: Any) -> Iterator[tuple[int, tuple[int, int]]]:
    return zip(encoding.ids, encoding.offsets, strict=True)


def _has_letter(span: str) -> bool:
    return any(map(str.isalpha, span))


def unknown_id(tokenizer_path: Path) -> int | None:
    """Return the id of the unknown token; None where there is none.

    Vocabularies of bytes have none.

    Raises:
        EncoderError: the file is gone, or is not a ``tokenizer.json``.
    """
    try:
        # Parsing all of a large vocabulary for one number takes longer than to load it, and 200 MB.
        found = _UNIGRAM_UNKNOWN.search(tokenizer_path.read_bytes())
        if found is not None:
            return int(found[1])
        model = read_json(tokenizer_path, MAX_BYTES)["model"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EncoderError(f"{tokenizer_path}: not a usable tokenizer.json ({error})") from error
    if not isinstance(model, dict):
        raise EncoderError(f"{tokenizer_path}: not a usable tokenizer.json (it has no model)")
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    vocabulary = model.get("vocab")
    unknown = vocabulary.get(model.get("unk_token")) if isinstance(vocabulary, dict) else None
    return unknown if isinstance(unknown, int) else None


# Safety check of an ONNX file, on its bytes, before ONNX Runtime opens it.
#
# A graph that reads tensors from other files escapes the hashes of its folder, and with ONNX Runtime before 1.24 the
# folder itself. Loops have unbounded iterations. Only the messages on the path to tensors and nodes are parsed; the
# field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3, the wire format is
# https://protobuf.dev/programming-guides/encoding/.

MAX_FIELDS = 2_000_000
"""Limit of parsed fields; a graph of a hundred layers has some 20,000."""
LOOPS = {b"Loop", b"Scan", b"SequenceMap"}

# Messages, and which of their fields hold which others.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_GRAPH, _OP_TYPE, _EXTERNAL_DATA, _DATA_LOCATION = 7, 4, 13, 14
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

_Field: TypeAlias = tuple[int, int, int, int]
"""Number, start and end of the content, and the value of a varint."""


def check_graph_file(path: Path) -> None:
    """Raise if an ONNX file has external data or a loop.

    Raises:
        EncoderError: it has; or it is missing, empty or not an ONNX file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            problem = _problem(content)
    except (OSError, ValueError, IndexError) as error:
        raise EncoderError(f"{path}: not a usable ONNX model ({error})") from error
    if problem is not None:
        raise EncoderError(f"{path}: not a usable ONNX model ({problem})")


def _problem(content: mmap.mmap) -> str | None:
    todo = [("model", 0, len(content))]
    fields_left, has_graph = MAX_FIELDS, False
    while todo:
        message, start, end = todo.pop()
        children = _CHILDREN[message]
        for number, offset, stop, value in message_fields(content, start, end):
            fields_left -= 1
            if fields_left < 0:
                return f"more than {MAX_FIELDS:,} fields"
            if number in children and stop > offset:
                todo.append((children[number], offset, stop))
            has_graph |= message == "model" and number == _GRAPH
            if message == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value)):
                return "a tensor's data lies in another file; save the model with all data inside"
            if message == "node" and number == _OP_TYPE and content[offset:stop] in LOOPS:
                return "it holds a loop"
    return None if has_graph else "it holds no graph"


def message_fields(content: mmap.mmap | bytes, offset: int, end: int) -> Iterator[_Field]:
    """Yield the fields of a message.

    Raises:
        ValueError, IndexError: it is not a message.
    """
    while offset < end:
        key, offset = _varint(content, offset)
        number, kind = key >> 3, key & 7
        value = 0
        start = offset
        if kind == _VARINT:
            value, offset = _varint(content, offset)
        elif kind == _LENGTH:
            length, start = _varint(content, offset)
            offset = start + length
        elif kind in (_FIXED32, _FIXED64):
            offset += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("not a message of protobuf")
        if offset > end or not number:
            raise ValueError("not a message of protobuf")
        yield number, start, offset, value


def _varint(content: mmap.mmap | bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = content[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
        shift += 7
    raise ValueError("not a message of protobuf")


# Graph runner: a transformer as one ONNX graph, with a row of numbers for each text.

BATCH = 32
"""Most texts, of similar length, in one run; more gain nothing on a CPU, and cost padding."""

BATCH_TOKENS = 384
"""Most tokens in one run, unless a single text has more.

From 150 on a token costs the same, and from 500 on more, as activations no longer fit into a core's cache."""

LARGE = 64 * 1024 * 1024
"""Bytes of a graph from which several threads share one run.

The weights of a smaller one stay in the cache, and a short text is done before a second thread has woken up; a larger
one is bound by memory, which several cores read faster."""

MAX_SHARING = 4
SPIN_US = 200
"""Microseconds that a thread spins for the next part of a run.

Longer than the gap between two parts, and little CPU after a run. Sleeping threads would cost more than they gain, and
ONNX Runtime's own wait burns 10 ms of CPU after each run."""


NO_TELEMETRY = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
"""Environment variables that keep ONNX Runtime from starting its telemetry; the name has changed between versions."""
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


class TextGraph:
    """ONNX graph with its tokenizer: texts to rows of numbers.

    The graph takes ``input_ids`` and ``attention_mask`` (and ``token_type_ids`` where it has that input), int64
    ``(batch, tokens)``, and returns float32 ``(batch, width)``. Safe to share between threads.

    Args:
        model_path: the ``.onnx`` file.
        tokenizer_path: its ``tokenizer.json``.
        width: length of a row.
        max_tokens: longer texts keep head and tail.
        threads: threads that share many texts, and with a :data:`LARGE` graph a single text too; all available cores
            when None.

    Raises:
        EncoderError: a file is missing or damaged, the graph has data in other files or a loop, or its inputs or its
            output are not these.
    """

    def __init__(
        self,
        model_path: Path,
        tokenizer_path: Path,
        *,
        width: int,
        max_tokens: int,
        threads: int | None = None,
    ) -> None:
        self.width = width
        threads = threads or available_cores()
        self._model_path = model_path
        is_large = _size(model_path) >= LARGE
        sharing = min(threads, MAX_SHARING) if is_large else 1
        self._sharing = sharing
        self._threads = max(1, threads // sharing)
        # ONNX Runtime leaves the interpreter free while it reads a graph: the tokenizer is read at the same time.
        with ThreadPoolExecutor(1, thread_name_prefix="semroute-open") as background:
            session = background.submit(_session, model_path, sharing)
            self._tokens = Tokens(tokenizer_path, max_tokens)
            self._session = session.result()
        self._inputs = {graph_input.name for graph_input in self._session.get_inputs()}
        self._lock = forks.lock()
        self._workers: ThreadPoolExecutor | None = None
        self._runs: set[object] = set()
        self._is_parents = False
        forks.in_child(self, TextGraph._after_fork)
        self._check_signature()

    def _check_signature(self) -> None:
        unknown_inputs = self._inputs - _INPUTS
        if unknown_inputs or "input_ids" not in self._inputs:
            listed = ", ".join(sorted(unknown_inputs or self._inputs)[:5])
            raise EncoderError(f"{self._model_path}: not a graph over token ids (its inputs: {listed[:100]!a})")
        output = self._session.get_outputs()[0]
        width = output.shape[-1] if output.shape else None
        if width != self.width:
            raise EncoderError(f"{self._model_path}: gives rows of {width!a} numbers, not {self.width}")
        if output.type != "tensor(float)" or len(output.shape) != 2:
            raise EncoderError(f"{self._model_path}: gives {output.type!a} of {len(output.shape)} axes, not float rows")

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """Run the graph over texts.

        Returns:
            ``(len(texts), width)`` float32, in the order of ``texts``.

        Raises:
            EncoderError: the graph fails on a text.
        """
        # A text without a token still needs one position; id 0 is the padding or the unknown token by custom.
        ids = [tokens or [0] for tokens in self._tokens(texts)]
        if len(ids) == 1:
            return self._run(ids)
        # Small batches when there are few texts, so that all threads have work.
        batches = length_batches([len(tokens) for tokens in ids], min(BATCH, -(-len(ids) // self._threads)))
        rows = np.empty((len(ids), self.width), dtype=np.float32)
        parts = self._pool().map(lambda batch: self._run([ids[row] for row in batch]), batches)
        for batch, part in zip(batches, parts, strict=True):
            rows[batch] = part
        return rows

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text if the tokenizer knows none of its words."""
        return self._tokens.unknown(texts)

    @property
    def tokens(self) -> Tokens:
        """The graph's tokenizer."""
        return self._tokens

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(self._threads, thread_name_prefix="semroute-encode")
            return self._workers

    def _run(self, ids: Sequence[Sequence[int]]) -> Matrix:
        input_ids, mask = padded(ids)
        inputs: dict[str, NDArray[np.int64]] = {"input_ids": input_ids}
        if "attention_mask" in self._inputs:
            inputs["attention_mask"] = mask
        if "token_type_ids" in self._inputs:
            inputs["token_type_ids"] = np.zeros_like(input_ids)
        run = object()
        self._runs.add(run)
        try:
            output: Matrix = self._own_session().run(None, inputs)[0]
        except Exception as error:  # every failure of ONNX Runtime is a class of its own under Exception
            raise EncoderError(f"{self._model_path}: the graph fails on a text ({_first_line(error)})") from error
        finally:
            self._runs.discard(run)
        if output.shape != (len(ids), self.width):
            raise EncoderError(f"{self._model_path}: the graph gives {output.shape} for {len(ids)} texts")
        return output

    def _own_session(self) -> Any:
        if self._is_parents:
            with self._lock:
                if self._is_parents:
                    self._session = _session(self._model_path, self._sharing)
                    self._is_parents = False
        return self._session

    def _after_fork(self) -> None:
        """Detach from the parent's threads after a fork.

        The graph is loaded again, on first use, only where it cannot run without them.

        A graph of one thread runs on its caller's, and its weights stay shared with the parent, unless another thread
        was running it at that moment and may have held one of its locks.
        """
        forks.leave_behind(self._workers)
        self._workers = None
        if self._sharing > 1 or self._runs:
            forks.leave_behind(self._session)
            self._is_parents = True
        self._runs.clear()


def padded(ids: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad token ids to a batch; return ids and mask.

    Both are ``(n, longest)`` int64: ids are 0 past the end of a text, where the mask is 0 too, and 1 elsewhere.
    """
    if len(ids) == 1:
        single = np.array(ids, dtype=np.int64)
        return single, np.ones_like(single)
    length = max(len(tokens) for tokens in ids)
    input_ids = np.zeros((len(ids), length), dtype=np.int64)
    mask = np.zeros((len(ids), length), dtype=np.int64)
    for row, tokens in enumerate(ids):
        input_ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return input_ids, mask


def length_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Group row numbers by similar length, longest first.

    The last groups to finish are then short ones.
    """
    batches: list[list[int]] = []
    capacity = 0
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True):
        if not capacity:
            batches.append([])
            capacity = max(1, min(size, BATCH_TOKENS // lengths[row]))
        batches[-1].append(row)
        capacity -= 1
    return batches


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def runtime() -> Any:
    """Import ONNX Runtime without its telemetry.

    From version 1.29 on the telemetry starts on import.

    It would report what it runs to its vendor, and its thread, which no fork copies, lets a forked child hang at exit.
    The environment variables are removed again. Where the application imported ONNX Runtime before, its choice stands.

    Source: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
    """
    missing = [name for name in NO_TELEMETRY if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        import onnxruntime
    finally:
        for name in missing:
            os.environ.pop(name, None)
    return onnxruntime


def _size(path: Path) -> int:
    """Return a file's bytes; 0 without a file, which opening it reports."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _session(path: Path, threads: int) -> Any:
    check_graph_file(path)
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Many texts are faster as several runs of one thread each than as one run of several threads.
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    # The format that was checked, whatever the file is called: ONNX Runtime reads an .ort file as another format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            # The fused kernel takes 5 times as long as the Add and the LayerNormalization that it replaces.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:  # every failure of ONNX Runtime is a class of its own under Exception
        raise EncoderError(f"{path}: not a usable ONNX model ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    """Return the escaped start of a foreign error message.

    It may hold names of a foreign file.
    """
    lines = str(error).strip().splitlines()
    return ascii(lines[0][:300])[1:-1] if lines else type(error).__name__


class OnnxEncoder:
    """Encoder by an ONNX graph that pools and normalises too.

    Runs a :class:`~semroute.encoders.onnx.TextGraph`. Safe to share between threads.

    Args:
        model_path: the ``.onnx`` file.
        tokenizer_path: its ``tokenizer.json``.
        name: display name.
        fingerprint: changes whenever the same text could get another vector.
        dimensions: length of a vector.
        max_tokens: longer texts keep head and tail.
        threads: threads that share many texts; all available cores when None.

    Raises:
        EncoderError: a file is missing or damaged, or the graph's output has other dimensions.
    """

    waits = False
    """It computes, and waits for nobody: concurrent queries may share one thread."""

    def __init__(
        self,
        model_path: Path | str,
        tokenizer_path: Path | str,
        *,
        name: str,
        fingerprint: str,
        dimensions: int,
        max_tokens: int = 256,
        threads: int | None = None,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.model_path = Path(model_path)
        self.tokenizer_path = Path(tokenizer_path)
        self._graph = TextGraph(
            self.model_path, self.tokenizer_path, width=dimensions, max_tokens=max_tokens, threads=threads
        )

    def __repr__(self) -> str:
        return f"OnnxEncoder(name={self.name!r}, dimensions={self.dimensions})"

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed ``texts``, in order.

        Returns ``(len(texts), dimensions)`` float32, unit rows.
        """
        return self._graph(texts)

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text if the tokenizer knows none of its words.

        Such texts all get the same vector.
        """
        return self._graph.unknown(texts)
