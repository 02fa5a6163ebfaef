"""Texts to token ids, with the ``tokenizers`` package alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from semroute import forks
from semroute.errors import EncoderError
from semroute.texts.clean import head_and_tail, prepare
from semroute.whole import read_json

MOST_BYTES = 128 << 20
"""Of a tokenizer; one for a vocabulary of 260,000 tokens in a hundred languages has 35 MB."""

_PLAIN_WORD = re.compile(r"(?<![^\W_])[A-Za-z]{1,32}(?![^\W_])")
"""A word that every tokenizer with a token for each letter can write, if it must, letter by letter."""

_WITH_UNKNOWN_TOKEN = frozenset({"WordPiece", "WordLevel", "BPE"})
"""Models of the library that show their token for what is unknown; ``Unigram`` has an id, which it hides."""

_SAMPLE_TOKENS = 16
"""A long text is known or not by its ends, of 16 characters a token each."""


class Tokens:
    """A ``tokenizer.json`` that gives at most ``max_tokens`` ids a text.

    Args:
        path: a Hugging Face ``tokenizer.json``.
        max_tokens: ids kept of a text, special tokens included: head and tail of a longer one.
        special: whether to add the special tokens ([CLS], [SEP]).

    Raises:
        EncoderError: the file is missing or is not a tokenizer.
    """

    def __init__(self, path: Path, max_tokens: int, *, special: bool = True) -> None:
        from tokenizers import Tokenizer

        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
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
        """Tokens that the tokenizer knows, added ones included."""
        return int(self._tokenizer.get_vocab_size())

    def __call__(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Ids of each text; a text without any is the empty list."""
        prepared = prepare(texts, self._max_tokens)
        encode = self._tokenizer
        if len(prepared) == 1 or not self._batches:  # handing one over to the pool of threads costs more than it saves
            encodings = [encode.encode(text, add_special_tokens=self._special) for text in prepared]
        else:
            encodings = encode.encode_batch_fast(prepared, add_special_tokens=self._special)
        return [head_and_tail(encoding.ids, self._max_tokens) for encoding in encodings]

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """Tell for each text whether the vocabulary has none of its words.

        Such texts have no token, or only the one for what is unknown, and beside it punctuation; they would all get the
        same vector, whatever they say: emoji, or scripts that the vocabulary lacks.

        Raises:
            EncoderError: the tokenizer's file is gone.
        """
        return [not self._is_spelt(text) and self._is_unknown(text) for text in texts]

    def _is_spelt(self, text: str) -> bool:
        return self._spells_letters and _PLAIN_WORD.search(text) is not None

    def _is_unknown(self, text: str) -> bool:
        (sample,) = prepare([text], _SAMPLE_TOKENS)
        encoding = self._tokenizer.encode(sample, add_special_tokens=False)
        if not encoding.ids:
            return True
        if self._unknown_id is None:
            return False
        known = [sample[start:end] for id_, (start, end) in _spans(encoding) if id_ != self._unknown_id]
        others = [sample[start:end] for id_, (start, end) in _spans(encoding) if id_ == self._unknown_id]
        if not others or any(map(_has_letter, known)):
            return False
        # "2 + 2 = 🤔" is known by its digits, but five digits do not make a text in an unknown script known.
        return any(map(_has_letter, others)) or not any(character.isalnum() for span in known for character in span)

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
        """Whether every word of Latin letters has tokens; where nothing is unknown, tokens may be bytes."""
        if self._unknown_id is None:
            return True
        inner = getattr(self._tokenizer.model, "continuing_subword_prefix", None) or ""
        is_by_word = type(self._tokenizer.model).__name__ == "WordLevel"
        pieces = (piece for letter in ascii_lowercase for piece in (letter, inner + letter))
        return not is_by_word and all(self._tokenizer.token_to_id(piece) is not None for piece in pieces)

    def _after_fork(self) -> None:
        # The library's pool of threads is the parent's; TOKENIZERS_PARALLELISM=true would make it wait for that.
        self._batches = False


def _spans(encoding: Any) -> Iterator[tuple[int, tuple[int, int]]]:
    return zip(encoding.ids, encoding.offsets, strict=True)


def _has_letter(span: str) -> bool:
    return any(map(str.isalpha, span))


def unknown_id(tokenizer_path: Path) -> int | None:
    """Id of the token that stands for what is unknown; None where there is none, as in vocabularies of bytes.

    Raises:
        EncoderError: the file is gone, or is no ``tokenizer.json``.
    """
    try:
        model = read_json(tokenizer_path, MOST_BYTES)["model"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EncoderError(f"{tokenizer_path}: not a usable tokenizer.json ({error})") from error
    if not isinstance(model, dict):
        raise EncoderError(f"{tokenizer_path}: not a usable tokenizer.json (it has no model)")
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    vocabulary = model.get("vocab")
    unknown = vocabulary.get(model.get("unk_token")) if isinstance(vocabulary, dict) else None
    return unknown if isinstance(unknown, int) else None
