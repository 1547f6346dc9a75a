"""What encoders of text and of speech have in common: an utterance ready for the model, loading, layers, the hidden states.

The kinds of encoders are in `pipeline.encoding.text_encoder` and `pipeline.encoding.audio_encoder`. torch and transformers are imported
on use: Luigi forks its workers, which must not inherit a torch that has already run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data.errors import InputError
from data.layers import LayerChoice
from pipeline.encoding import pretrained, trial
from pipeline.encoding.checkpoints import Source
from pipeline.settings import EncoderSettings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Prepared:
    """One utterance, ready for the encoder."""

    values: np.ndarray  # (S,) float32 samples, normalised; or (T,) int64 token ids; those of its context included
    length: int  # rows of its features
    cost: int  # frames or tokens that it adds to a batch, those of its context included; for audio before any are averaged
    truncated: bool = False
    own: np.ndarray | None = None  # places of its own rows among those of its input, which begins with a context; None: all
    types: np.ndarray | None = None  # (T,) int64 token types, where the model gets them
    context_cut: bool = False  # its context was longer than the room that its text left

    def own_rows(self, hidden: np.ndarray) -> np.ndarray:
        """Copies the rows of this utterance, not averaged yet, from (T', D) hidden states, which end with those of the padding."""
        return hidden[: self.cost].copy() if self.own is None else hidden[self.own]

    def is_own(self, size: int) -> np.ndarray:
        """Returns (size,) bool: which of `size` hidden states are those that `own_rows` copies."""
        found = np.zeros(size, dtype=bool)
        found[slice(self.cost) if self.own is None else self.own] = True
        return found


class BaseEncoder:
    """The common part of text and audio encoders."""

    reads: ClassVar[str]  # the input of the models that it takes
    expects: ClassVar[str]  # the same in words
    dim: int
    budget: int  # largest cost of one batch; 0: one utterance at a time

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str, trainable: bool = False) -> None:
        import torch

        from pipeline.encoding import cpu

        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        self.source, self.precision, self.settings = source, precision, settings
        self.device, self.dtype = "cpu", torch.float32  # where the model is while it is tried
        self.model = self._load()
        self.config = self.model.config
        with trial.refusing(source.folder, self.model):
            self._choose_layers()
            self._prepare_inputs()
            self._try()
        self.device, self.dtype = device, getattr(torch, precision)
        self.model = self.model.to(device=device, dtype=self.dtype)
        self.products = f"torch {precision} on {device}"
        if device == "cpu" and not trainable:
            self.products = cpu.pack(self.model)  # packed weights have no gradients
        if self.config._attn_implementation != "sdpa":
            self.products += f", {self.config._attn_implementation} attention"

    def _load(self) -> Any:
        """Loads the model; weights that the checkpoint lacks are erased, so that their use is noticed.

        Raises:
            InputError: The checkpoint cannot be loaded, or its model reads something else.
        """
        model, self.erased = pretrained.load_model(self.source.folder)
        if model.main_input_name != self.reads or model.config.is_encoder_decoder:
            kind = "is an encoder with a decoder" if model.config.is_encoder_decoder else f"reads {model.main_input_name}"
            raise InputError(f"{self.source.folder}: a {model.config.model_type} model {kind}; expected is {self.expects}.")
        trial.erase(model, self.erased)
        return model

    def _choose_layers(self) -> None:
        choice = LayerChoice.parse(self.settings.layers)
        self._is_mean = choice.is_mean
        self.layers = () if choice.is_last else choice.numbers(self.config.num_hidden_layers, self.source.name)  # (): the last

    def _prepare_inputs(self) -> None:
        """Opens what turns an utterance into the input of the model."""
        raise NotImplementedError  # text and speech have their own

    def _try(self) -> None:
        """Runs the model on small inputs, to learn its width and to refuse one that cannot give features."""
        raise NotImplementedError  # text and speech have their own

    def states(self, batch: Sequence[Prepared]) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes what an adaptation learns from, with gradients where they are on.

        Returns:
            The hidden states (B, T, D), and which rows are an utterance's own (B, T): True but for its context and the padding.
        """
        import torch

        hidden = self._states(batch)
        own = np.stack([item.is_own(hidden.shape[1]) for item in batch])
        return hidden, torch.from_numpy(own).to(hidden.device)

    def _states(self, batch: Sequence[Prepared]) -> torch.Tensor:
        raise NotImplementedError  # text and speech have their own

    def _hidden(self, model: Any, **inputs: torch.Tensor) -> Any:
        """Runs the model once; returns the chosen layers side by side, (B, T, L · D), or their mean, and all of the output."""
        output = model(**inputs, output_hidden_states=bool(self.layers))
        if not self.layers:
            return output.last_hidden_state, output
        chosen = [output.hidden_states[number] for number in self.layers]
        if len(chosen) == 1:
            return chosen[0], output
        return _mean(chosen) if self._is_mean else _side_by_side(chosen), output


def _mean(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    precise = [layer if layer.dtype == torch.float64 else layer.float() for layer in layers]
    return torch.stack(precise).mean(0)


def _side_by_side(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.cat(list(layers), dim=-1)
