"""Hidden layers of an encoder: which of them a build keeps, and how they lie in a feature file.

Layers are numbered as transformers numbers hidden states: 0 is the embeddings, n the hidden state after block n. A feature file holds
one layer, the mean of several, or several side by side: layer i of L is columns i · D to (i + 1) · D of the (T, L · D) features of an
utterance. The file's fact "identity" says which, as `LayerChoice.facts` returns it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from data.errors import InputError, shown

_TERM = re.compile(r"(-?\d{1,6})(?:\.\.(-?\d{1,6}))?")
_MEAN = re.compile(r"mean\((.*)\)")
_EXPECTED = "expected a layer such as -1 or 8, several such as 6,9,12 or 6..12, all, or their mean, such as mean(-4..-1)"


@dataclass(frozen=True)
class LayerChoice:
    """The layers that a build keeps, as luigi.cfg names them: before the number of blocks is known."""

    text: str
    spans: tuple[tuple[int, int], ...]  # first and last number of each; -1 is the last block, -2 the one before it, …
    is_mean: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads "-1", "8", "6,9,12", "6..12", "all", "mean(-4..-1)" or "mean(all)".

        Raises:
            InputError: The text is none of these.
        """
        mean = _MEAN.fullmatch(text.strip())
        named = (mean[1] if mean else text).strip()
        if named == "all":
            return cls(text, ((0, -1),), bool(mean))
        terms = [_TERM.fullmatch(part.strip()) for part in named.split(",")]
        spans = tuple((int(term[1]), int(term[2] or term[1])) for term in terms if term)
        if len(spans) < len(terms):
            raise InputError(f"layers is {shown(text)}, {_EXPECTED}.")
        return cls(text, spans, bool(mean))

    @property
    def is_last(self) -> bool:
        """True for -1 alone: the last hidden state, which a few models (wav2vec 2.0 with stable layer norm) normalise once more."""
        return self.spans == ((-1, -1),)

    @property
    def needs_blocks(self) -> bool:
        """True if the numbers of the layers depend on the number of blocks."""
        return not self.is_last and any(number < 0 for span in self.spans for number in span)

    def numbers(self, blocks: int, model: str) -> tuple[int, ...]:
        """Returns the numbers of the layers, ascending.

        Args:
            blocks: Number of blocks of the encoder.
            model: Its name, for messages.

        Raises:
            InputError: A layer is not in the encoder, is named twice, or a range is empty.
        """
        found: list[int] = []
        for first, last in self.spans:
            start, stop = (number + blocks + 1 if number < 0 else number for number in (first, last))
            if not (0 <= start <= blocks and 0 <= stop <= blocks):
                raise InputError(
                    f"layers is {shown(self.text)}, expected 0 (embeddings) to {blocks} for {model}, or -1 (the last) to {-blocks - 1}."
                )
            if start > stop:
                raise InputError(f"layers is {shown(self.text)}: the range {first}..{last} is empty for {model}, with {blocks} blocks.")
            found += range(start, stop + 1)
        if repeated := sorted({number for number in found if found.count(number) > 1}):
            raise InputError(f"layers is {shown(self.text)}: layer {repeated[0]} is named twice. Name it once.")
        return tuple(sorted(found))

    def facts(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Returns what a feature file says about its layers.

        Args:
            numbers: Their numbers, as `numbers` returns them; not read for -1 alone, which is stored as -1.
        """
        if self.is_last:
            return {"layer": -1}
        if len(numbers) == 1:
            return {"layer": numbers[0]}
        return {"mean_of_layers" if self.is_mean else "layers": list(numbers)}


def stored_layers(identity: Any) -> tuple[int, ...]:
    """Returns the numbers of the layers that lie side by side in a feature file; none if it holds a mean, or does not say which layer.

    Args:
        identity: The fact "identity" of the file, which may be anything in files of other programs.
    """
    if not isinstance(identity, Mapping):
        return ()
    several = identity.get("layers")
    if isinstance(several, list) and several and all(type(number) is int for number in several):
        return tuple(several)
    return (identity["layer"],) if type(identity.get("layer")) is int else ()


def described(identity: Any) -> str:
    """Describes the layers of a feature file in words: "layer 8", "layers 6, 9, 12", "the mean of layers 9, 10"; "" if unknown."""
    numbers = stored_layers(identity)
    if not numbers and isinstance(identity, Mapping) and isinstance(mean := identity.get("mean_of_layers"), list):
        return f"the mean of layers {', '.join(map(str, mean))}"
    if len(numbers) > 1:
        return f"layers {', '.join(map(str, numbers))}"
    return {-1: "the last layer"}.get(numbers[0], f"layer {numbers[0]}") if numbers else ""


def positions(stored: Sequence[int], picked: Sequence[int], name: str, where: str, holds: str) -> tuple[int, ...]:
    """Returns the place of each picked layer among the stored ones.

    Args:
        stored: Numbers of the layers of a file, as `stored_layers` returns them.
        picked: Numbers of the layers that are wanted.
        name: Name of the option that picks them, for messages.
        where: The file, for messages.
        holds: What the file holds, as `described` returns it.

    Raises:
        InputError: A layer is not in the file, or none or one is picked twice.
    """
    if not picked or len(set(picked)) < len(picked):
        raise InputError(f"{name} is {shown(list(picked))}, expected one layer or more, each of them once.")
    if missing := [number for number in picked if number not in stored]:
        raise InputError(
            f"{name} is {shown(list(picked))}, but {where} holds {holds or 'one layer of unknown number'}, not layer {missing[0]}."
            " Pick among these, or add it to layers in luigi.cfg and run BuildFeatures again."
        )
    return tuple(stored.index(number) for number in picked)
