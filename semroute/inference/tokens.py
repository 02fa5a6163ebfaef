"""Texts to token ids, with the ``tokenizers`` package alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semroute.errors import EncoderError
from semroute.texts.clean import head_and_tail, prepare

MOST_BYTES = 128 << 20
"""Of a tokenizer; one for a vocabulary of 260,000 tokens in a hundred languages has 35 MB."""


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
        self._special = special
        self._max_tokens = max_tokens

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the tokenizer knows, added ones included."""
        return int(self._tokenizer.get_vocab_size())

    def __call__(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Ids of each text; a text without any is the empty list."""
        prepared = prepare(texts, self._max_tokens)
        encode = self._tokenizer
        if len(prepared) == 1:  # the batch call's hand-over to its thread pool costs more than it saves
            encodings = [encode.encode(prepared[0], add_special_tokens=self._special)]
        else:
            encodings = encode.encode_batch_fast(prepared, add_special_tokens=self._special)
        return [head_and_tail(encoding.ids, self._max_tokens) for encoding in encodings]
