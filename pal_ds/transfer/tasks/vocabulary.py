"""Sentences as word numbers: lower case, no punctuation, words of the training sentences."""

from __future__ import annotations

import string
from collections.abc import Iterable

PADDING = 0
UNKNOWN = 1
FIRST = 2
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Vocabulary:
    """Numbers for words; 0 is padding, 1 any word not seen in training.

    Args:
        words: known words, in order.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = list(words)
        self._number = {word: number for number, word in enumerate(self.words, start=FIRST)}

    @classmethod
    def of(cls, sentences: Iterable[str]) -> Vocabulary:
        """Collect the words of training sentences, sorted."""
        return cls(sorted({word for sentence in sentences for word in tokens(sentence)}))

    def __len__(self) -> int:
        return FIRST + len(self.words)

    def encode(self, sentence: str, length: int) -> list[int]:
        """Number a sentence's first ``length`` words and pad; an empty sentence is one unknown word."""
        numbers = [self._number.get(word, UNKNOWN) for word in tokens(sentence)[:length]] or [UNKNOWN]
        return numbers + [PADDING] * (length - len(numbers))


def tokens(sentence: str) -> list[str]:
    """Split a sentence into words."""
    return sentence.lower().translate(_NO_PUNCTUATION).split()
