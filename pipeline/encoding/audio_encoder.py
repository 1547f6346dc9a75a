"""Encoders of speech: features of frames, or means of several. torch is imported on use, as in `pipeline.encoding.encoder`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from data.media import SAMPLE_RATE_HZ
from pipeline.encoding import pretrained, trial
from pipeline.encoding.checkpoints import Source, frames_averaged
from pipeline.encoding.context import audio_inputs
from pipeline.encoding.encoder import BaseEncoder, Prepared
from pipeline.settings import EncoderSettings

if TYPE_CHECKING:
    import torch

_BATCHED_AUDIO = "data2vec-audio"
"""The audio architecture whose padded batches can be made exact, by zeroing the padding after each positional convolution. The others
run one clip at a time: wav2vec 2.0's group norm, for example, mixes padding into every frame of the front end."""

_FEW_FRAMES = 4
"""Clips with fewer frames than this run in float64 in Data2Vec. The layer norm behind each positional convolution divides by the small
spread of so few frames: among 400 clips with one frame of noise, float32 differed from float64 by more than 1e-5 in about 1 %, in
transformers' own arithmetic as well as in ours; among 1,500 clips with four frames, in none."""


class AudioEncoder(BaseEncoder):
    """Frame features (T, D) of 16 kHz speech: 50 frames a second for Data2Vec, or means of several frames."""

    reads, expects = "input_values", "an encoder of waveforms, like Data2Vec or wav2vec 2.0"

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str, trainable: bool = False) -> None:
        from pipeline.encoding import cpu

        super().__init__(source, settings, device, precision, trainable)
        self.batched = self.config.model_type == _BATCHED_AUDIO
        self.budget = _audio_budget(device, precision) if self.batched else 0
        if self.batched:
            positions = self.model.encoder.pos_conv_embed
            self._channels = 2 if isinstance(positions, cpu.ChannelsLastPositions) else 1
            for layer in positions.layers:
                layer.register_forward_hook(self._zero_padding)

    def _prepare_inputs(self) -> None:
        if not getattr(self.config, "conv_kernel", None) or not getattr(self.config, "conv_stride", None):
            raise InputError(f"{self.source.folder}: {self.config.model_type} models have no known number of frames.")
        self.extractor = pretrained.load_extractor(self.source.folder)
        self.averaged = frames_averaged(self.settings, self.config.conv_stride)
        self._hop = math.prod(self.config.conv_stride)  # samples from one frame to the next
        self._padding: torch.Tensor | None = None

    def _try(self) -> None:
        import torch

        item = self.prepare(np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE_HZ // 2).astype(np.float32))
        with torch.inference_mode():
            hidden, _ = self._hidden(self.model, input_values=torch.from_numpy(item.values)[None])
        trial.expect_rows(self.source.folder, self.model, hidden.shape, item.cost)
        trial.expect_finite(self.source.folder, hidden, self.erased)
        trial.expect_difference(self.source.folder, hidden[0])
        self.dim = hidden.shape[2]

    def _zero_padding(self, _module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        # Without this, each positional convolution reads the padding as the one before left it: bias, layer norm, GELU, not zeros.
        return output if self._padding is None else output.masked_fill(self._padding.unsqueeze(self._channels), 0)

    def frames(self, num_samples: int) -> int:
        """Returns the frames that the front end makes of `num_samples`: 96,000 → 299 for Data2Vec; 0 or less for too few samples."""
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    def rows(self, num_samples: int) -> int:
        """Returns the rows of the features of `num_samples`: as many as frames, or as means of frames, the last perhaps of fewer."""
        return -(-self.frames(num_samples) // self.averaged)

    def prepare(self, waveform: np.ndarray, before: np.ndarray | None = None) -> Prepared:
        """Normalises a waveform (S,), with the speech (C,) before it if there is any, as the model's own feature extractor does.

        Raises:
            InputError: The waveform is shorter than one frame.
        """
        frames = self.frames(len(waveform))
        if frames < 1:
            raise InputError(f"{len(waveform)} samples at {SAMPLE_RATE_HZ} Hz are too short for one frame of {self.config.model_type}")
        made = audio_inputs(waveform, waveform[:0] if before is None else before, self.frames, self._hop)
        values = self.extractor(made.samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")["input_values"][0]
        rows, frames = self.rows(len(waveform)), self.frames(len(made.samples))
        return Prepared(np.asarray(values, dtype=np.float32), rows, frames, own=made.own)

    def shortened(self, item: Prepared, samples: float) -> Prepared:
        """Cuts a prepared clip to its first `samples`, if it has more, and marks it as truncated; the speech before it stays whole."""
        before = 0 if item.own is None else int(item.own[0]) * self._hop
        if len(item.values) - before <= samples:
            return item
        kept = round(samples)
        values, own = item.values[: before + kept], before // self._hop + np.arange(self.frames(kept))
        return Prepared(values, self.rows(kept), self.frames(len(values)), True, own)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """Computes the features of each utterance, (T, D) float32; clips of one to three frames in float64, see `_FEW_FRAMES`."""
        import torch

        exact = [self.batched and self.precision == "float32" and item.cost < _FEW_FRAMES for item in batch]
        usual = [item for item, is_exact in zip(batch, exact, strict=True) if not is_exact]
        groups = [usual] if self.batched and usual else [[item] for item in usual]
        with torch.inference_mode():
            features = iter([rows for group in groups for rows in self._run(group)])
            found = [self._run_exactly(item) if is_exact else next(features) for item, is_exact in zip(batch, exact, strict=True)]
        return [_window_means(frames, self.averaged) for frames in found]

    @cached_property
    def _exact_model(self) -> Any:
        return self._load().double().to(self.device)

    def _run_exactly(self, item: Prepared) -> np.ndarray:
        import torch

        values = torch.from_numpy(item.values)[None].double().to(self.device)
        hidden, _ = self._hidden(self._exact_model, input_values=values)
        return item.own_rows(hidden[0].float().cpu().numpy())

    def _run(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        hidden = self._states(batch).float().cpu().numpy()
        return [item.own_rows(rows) for item, rows in zip(batch, hidden, strict=True)]

    def _states(self, batch: Sequence[Prepared]) -> torch.Tensor:
        import torch

        longest = max(len(item.values) for item in batch)
        values = np.zeros((len(batch), longest), dtype=np.float32)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, item in enumerate(batch):
            values[row, : len(item.values)] = item.values
            mask[row, : len(item.values)] = 1
        inputs = {"input_values": torch.from_numpy(values).to(self.device, self.dtype)}
        if not mask.all():
            lengths = torch.tensor([item.cost for item in batch], device=self.device)
            self._padding = torch.arange(self.frames(longest), device=self.device) >= lengths[:, None]
            inputs["attention_mask"] = torch.from_numpy(mask).to(self.device)
        try:
            return self._hidden(self.model, **inputs)[0]
        finally:
            self._padding = None


def _audio_budget(device: str, precision: str) -> int:
    """Returns the frames of a batch. On a CPU, a float32 clip alone keeps the processor busy; bfloat16 would wait for the weights."""
    if device != "cpu":
        return 30_000
    return 2_048 if precision == "bfloat16" else 0


def _window_means(frames: np.ndarray, size: int) -> np.ndarray:
    """Averages every `size` frames of (T, D), the last window perhaps of fewer: (⌈T / size⌉, D).

    The same sums in the same order as `heads.models.parts.layers.pool_steps`, so that stored means equal those that a head takes.
    """
    import torch
    from torch.nn import functional

    if size == 1:
        return frames
    missing = -len(frames) % size
    sums = functional.pad(torch.from_numpy(frames), (0, 0, 0, missing)).unflatten(0, (-1, size)).sum(1)
    counts = torch.full((len(sums), 1), float(size))
    counts[-1] = size - missing
    return (sums / counts).numpy()
