"""Runs a freshly loaded model on a few small inputs, to find out what its configuration does not say reliably.

Found out are: the width of its features, the number of positions, whether padded batches are exact, and whether weights that the
checkpoint lacks matter. Nothing here knows an architecture by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError, reason

if TYPE_CHECKING:
    import torch

_SHORT, _LONG = 3, 5  # tokens of the two texts
_TOLERANCE = 1e-4
"""Largest difference between batched and alone that counts as rounding, relative to the largest value. Real leaks of padding are far
larger: 0.1 for Data2Vec."""


@dataclass(frozen=True)
class TextTrial:
    """The result of trying a text model."""

    width: int  # columns of its features
    positions: int  # largest number of tokens; 0: no limit
    batches_exactly: bool  # a text's features do not depend on padding


def erase(model: Any, names: Sequence[str]) -> None:
    """Sets weights to NaN, so that features which depend on them are not finite, now or later."""
    import torch

    with torch.no_grad():
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            if name in names and weight.is_floating_point():
                weight.fill_(float("nan"))


def expect_finite(folder: Path, values: torch.Tensor, erased: Sequence[str], advice: str = "") -> None:
    """Checks that features are finite.

    Raises:
        InputError: They are not, because of erased weights or by themselves.
    """
    if values.isfinite().all():
        return
    if erased:
        raise InputError(
            f"{folder}: the checkpoint lacks weights of its own architecture ({', '.join(erased[:3])}…); they would be random. "
            f"Give a complete checkpoint{advice}."
        )
    raise InputError(f"{folder}: its weights give values that are not finite. Download the checkpoint again.")


@contextmanager
def refusing(folder: Path, model: Any) -> Iterator[None]:
    """Turns any error of a model into an `InputError` that names its architecture."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # every architecture has its own way to fail
        why = f"{type(error).__name__}: {reason(error)}"
        raise InputError(f"{folder}: a {model.config.model_type} model cannot be used as this encoder ({why}).") from error


def expect_rows(folder: Path, model: Any, shape: Sequence[int], rows: int) -> None:
    """Checks that features have the shape (B, rows, D).

    Raises:
        InputError: They have another one.
    """
    if len(shape) != 3 or shape[1] != rows:
        raise InputError(
            f"{folder}: this {model.config.model_type} model gives features of shape {tuple(shape)} where {rows} rows are expected, "
            "one for each token or frame. It cannot be used as an encoder."
        )


def expect_difference(folder: Path, values: torch.Tensor) -> None:
    """Checks that the rows (T, D) of an input whose tokens or frames differ are not all alike.

    Raises:
        InputError: They are, as with weights that are all zero.
    """
    if len(values) > 1 and (values == values[:1]).all():
        raise InputError(f"{folder}: its weights give the same features for all inputs. Download the checkpoint again.")


def try_text(folder: Path, model: Any, run: Callable[[list[list[int]]], torch.Tensor]) -> TextTrial:
    """Tries a text model.

    Args:
        folder: The checkpoint, for messages.
        model: The model.
        run: Computes the features (B, T, D) of B lists of token ids, padded and masked; the last list is the longest.
    """
    import torch

    ids = _token_ids(model)
    with torch.inference_mode(), _indexes(model) as seen:
        short, long = run([ids[:_SHORT]]), run([ids])
        both = run([ids[:_SHORT], ids])
    if len(set(ids)) > 1:
        expect_difference(folder, long[0])
    worst = max((both[0, :_SHORT] - short[0]).abs().max(), (both[1] - long[0]).abs().max())
    return TextTrial(long.shape[2], _positions(model, seen), bool(worst <= _TOLERANCE * max(1, long.abs().max())))


def _token_ids(model: Any) -> list[int]:
    """Returns token ids with the largest first, none of them padding: a shorter text has the same largest id."""
    rows, padding = model.get_input_embeddings().weight.shape[0], model.config.pad_token_id
    usable = [token for token in range(rows - 1, max(rows - _LONG - 2, -1), -1) if token != padding]
    return (usable * _LONG)[:_LONG]


@contextmanager
def _indexes(model: Any) -> Iterator[dict[Any, list[tuple[int, int]]]]:
    """Yields a record of each embedding's calls: how many rows were looked up, and the largest index."""
    import torch

    seen: dict[Any, list[tuple[int, int]]] = {}

    def note(module: Any, inputs: Any) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor):  # RoFormer's positions are looked up by a shape
            seen.setdefault(module, []).append((inputs[0].numel(), int(inputs[0].max())))

    hooks = [module.register_forward_pre_hook(note) for module in model.modules() if _looks_up_rows(module)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _looks_up_rows(module: Any) -> bool:
    """Tells whether a module is an embedding; I-BERT's quantised one is no `torch.nn.Embedding`."""
    return "Embedding" in type(module).__name__ and getattr(getattr(module, "weight", None), "ndim", 0) == 2


def _positions(model: Any, seen: dict[Any, list[tuple[int, int]]]) -> int:
    """Returns the number of tokens that the position embedding has rows for, or 0.

    A position embedding is one that looks up one row a token, and whose largest index grows with the number of tokens. Its first index
    may be larger than 0: RoBERTa's and MPNet's positions begin behind the padding index.
    """
    limits = [getattr(model.config, "max_position_embeddings", None) or 0]
    for embedding, calls in seen.items():
        (count, short), (longer_count, long) = calls[:2] if len(calls) > 1 else [(0, 0), (0, 0)]
        if (count, longer_count) == (_SHORT, _LONG) and long - short == _LONG - _SHORT:
            limits.append(embedding.weight.shape[0] - (short - _SHORT + 1))
    return min((limit for limit in limits if limit > 0), default=0)
