"""Universal sets: the values from which quantization points are chosen."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ptqsr.errors import PtqsrError

Word = tuple[float, ...]

_PRESET_WORDS: dict[str, tuple[Word, ...]] = {
    # DFSQ (Zhong et al.) states 107 values but not the word sets; these satisfy its example.
    "dfsq-107": (
        (0, 1, 2**-1, 2**-4),
        (0, 2**-2, 2**-4, 2**-5),
        (0, 1, 2**-1, 2**-4),
        (0, 1, 2**-1, 2**-4),
    ),
    "dfsq-code": tuple((0, 1, 2**-j, 2 ** -(j + 4)) for j in (1, 2, 3, 4)),
    # Oh et al., ECCV 2022.
    "sq-2word": ((0, 1, 2**-1, 2**-3), (0, 1, 2**-2, 2**-4)),
}
PRESETS = (*_PRESET_WORDS, "int8")

# Above this the integers leave the range in which float32 holds half-integers exactly.
MAX_EXPONENT = 16
MAX_COMBINATIONS = 1 << 20
# What statistics (a histogram on the integer grid) and selectors (all pairs of values) can bear.
MAX_DENOMINATOR, MAX_VALUES = 8192, 2048


@dataclass(frozen=True)
class UniversalSet:
    """Values k / D, symmetric about 0, with integers k and largest magnitude 1 (k = D).

    With words, the non-negative values are all sums of one element per word (DFSQ, section 3.2.2),
    divided by the largest. `words` is None for the uniform grid `int8`.
    """

    name: str
    words: tuple[Word, ...] | None

    @classmethod
    def preset(cls, name: str) -> UniversalSet:
        """Return one of PRESETS; raises PtqsrError for another name.

        >>> len(UniversalSet.preset("dfsq-107").values)
        107
        """
        if name not in PRESETS:
            raise PtqsrError(f"universal set {name!r} is unknown; choose {', '.join(PRESETS)}")
        return cls(name, _PRESET_WORDS.get(name))

    @classmethod
    def from_words(cls, words: Sequence[Sequence[float]], *, name: str = "custom") -> UniversalSet:
        """Return the set of the given words, whose elements are 0 or 2^-k, 0 <= k <= 16.

        Every word must hold 0, so that the set does. Raises PtqsrError otherwise.

        >>> UniversalSet.from_words([[0, 1, 0.5], [0, 0.25]]).integers.tolist()
        [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5]
        """
        distinct = tuple(tuple(dict.fromkeys(float(e) for e in word)) for word in words)
        if not distinct or any(len(word) < 2 for word in distinct):
            raise PtqsrError("universal set: give at least one word, each of two or more elements")
        for word in distinct:
            if 0 not in word:
                raise PtqsrError(f"universal set: word {list(word)} lacks the element 0; add it")
            for element in word:
                exponent = -math.log2(element) if element > 0 else 0.0
                if not element >= 0 or not 0 <= exponent <= MAX_EXPONENT or exponent % 1:
                    raise PtqsrError(
                        f"universal set: element {element:g} is neither 0 nor 2^-k with k from 0 "
                        f"to {MAX_EXPONENT}"
                    )
        if math.prod(len(word) for word in distinct) > MAX_COMBINATIONS:
            raise PtqsrError("universal set: more than 2^20 combinations; give fewer words")
        made = cls(name, distinct)
        if made.denominator > MAX_DENOMINATOR or len(made.integers) > MAX_VALUES:
            raise PtqsrError(
                f"universal set: {len(made.integers)} values k/{made.denominator} are more or "
                f"finer than {MAX_VALUES} values k/{MAX_DENOMINATOR}; give fewer words"
            )
        return made

    @classmethod
    def read(cls, name_or_file: str) -> UniversalSet:
        """Return a preset, or the set in a JSON file: a list of words, each a list of numbers."""
        if name_or_file in PRESETS:
            return cls.preset(name_or_file)
        path = Path(name_or_file)
        if not path.is_file():
            raise PtqsrError(
                f"universal set {name_or_file!r} is neither a file nor one of {', '.join(PRESETS)}"
            )
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
            return cls.from_words([[float(e) for e in word] for word in words], name=path.stem)
        except PtqsrError as error:
            raise PtqsrError(f"{path}: {error}") from None
        except (OSError, ValueError, TypeError):
            raise PtqsrError(
                f"{path}: is no JSON list of words, as [[0, 1, 0.5], [0, 0.25]]"
            ) from None

    @cached_property
    def _sums(self) -> Mapping[int, tuple[float, ...]]:
        """Every non-negative integer with its first combination in lexicographic order."""
        assert self.words is not None
        sums: dict[int, tuple[float, ...]] = {}
        for combination in itertools.product(*self.words):
            sums.setdefault(round(sum(combination) * self._unit), combination)
        return sums

    @cached_property
    def _unit(self) -> int:
        """1 / the smallest element: what makes every sum an integer."""
        assert self.words is not None
        return round(1 / min(element for word in self.words for element in word if element > 0))

    @cached_property
    def integers(self) -> np.ndarray:
        """int64, sorted: the values times the denominator."""
        positive = range(1, 128) if self.words is None else (k for k in self._sums if k > 0)
        half = np.array(sorted(positive), dtype=np.int64)
        return np.concatenate((-half[::-1], [0], half))

    @cached_property
    def denominator(self) -> int:
        """D, the largest integer."""
        return int(self.integers[-1])

    @cached_property
    def values(self) -> np.ndarray:
        """float64, sorted, in [-1, 1]."""
        return self.integers / self.denominator

    @property
    def is_int8(self) -> bool:
        """Whether int8 holds every integer, which deployment asks for."""
        return self.denominator <= 127

    @cached_property
    def shifts(self) -> Mapping[int, tuple[int | None, ...]] | None:
        """For every integer k, an exponent e per word: |k| = sum of 2^e, None standing for 0.

        None for a set without words. The shift-add kernel multiplies by k with one shift per word.
        """
        if self.words is None:
            return None
        table: dict[int, tuple[int | None, ...]] = {}
        for k, combination in self._sums.items():
            exponents = tuple(round(math.log2(e * self._unit)) if e else None for e in combination)
            table[k] = table[-k] = exponents
        return MappingProxyType(dict(sorted(table.items())))

    def shift_codes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (codes, shifts), int32: what the shift-add convolution takes for `integers`.

        shifts [W, E]: the exponents e of each word's elements 2^e, -1 for 0 and for none. A code
        holds an index in w = ceil(log2(E)) bits for every word, the first word lowest, and the sign
        in bit W w. Raises PtqsrError for a set without words.
        """
        if self.words is None or self.shifts is None:
            raise PtqsrError(f"universal set {self.name}: has no words to shift by")
        rows = [[round(math.log2(e * self._unit)) if e else -1 for e in w] for w in self.words]
        elements = max(map(len, rows))
        width = (elements - 1).bit_length()
        codes = []
        for k in self.integers.tolist():
            exponents = (-1 if e is None else e for e in self.shifts[k])
            code = (k < 0) << (len(rows) * width)
            for word, (row, exponent) in enumerate(zip(rows, exponents, strict=True)):
                code |= row.index(exponent) << (word * width)
            codes.append(code)
        padded = [row + [-1] * (elements - len(row)) for row in rows]
        return np.array(codes, np.int32), np.array(padded, np.int32)

    def count(self, bits: int) -> int:
        """Return how many points a quantizer of so many bits has: at most the whole set."""
        return min(1 << bits, len(self.integers))
