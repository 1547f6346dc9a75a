"""The encoders: each turns a batch into features, and every utterance gets the features that the model gives for it alone.

Checkpoints are found in `pipeline.encoding.checkpoints`, batches are composed in `pipeline.encoding.extract`, media are decoded in
`data.media`. torch and transformers are imported on use: Luigi forks its workers, which must not inherit a torch that has already run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from data.media import SAMPLE_RATE_HZ
from pipeline.encoding.checkpoints import Source, locate, pooling
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


@dataclass(frozen=True)
class Prepared:
    """One utterance, ready for the encoder."""

    values: np.ndarray  # (S,) float32 samples, normalised; or (T,) int64 token ids
    length: int  # rows of its features
    cost: int  # frames or tokens that it adds to a batch
    truncated: bool = False


class _Encoder:
    """The common part of text and audio encoders."""

    dim: int
    budget: int  # largest cost of one batch; 0: one utterance at a time

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str, needs_pooler: bool = False) -> None:
        import torch

        from pipeline.encoding import cpu

        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        model = _load(source, needs_pooler)
        blocks = model.config.num_hidden_layers
        if not -1 <= settings.layer <= blocks:
            raise InputError(f"layer is {settings.layer}, expected 0 (embeddings) to {blocks} for {source.name}, or -1 for the last.")
        self.products = f"torch {precision} on {device}"
        self.dtype = getattr(torch, precision)
        if device == "cpu" and precision == "float32":
            cpu.keep_freed_memory()
            self.products = cpu.pack(model)
        self.model = model.to(device=device, dtype=self.dtype)
        self.device, self.layer, self.config = device, settings.layer, model.config
        self.dim = model.config.hidden_size

    def _hidden(self, model: Any, **inputs: torch.Tensor) -> Any:
        output = model(**inputs, output_hidden_states=self.layer >= 0)
        hidden = output.last_hidden_state if self.layer < 0 else output.hidden_states[self.layer]
        return hidden, output


def _load(source: Source, needs_pooler: bool) -> Any:
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = transformers.AutoModel.from_pretrained(
            source.folder, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{source.folder}: transformers cannot load this checkpoint ({error}).") from error
    missing = sorted(key for key in info["missing_keys"] if needs_pooler or "pooler." not in key)
    if missing or info["mismatched_keys"]:
        raise InputError(
            f"{source.folder}: the checkpoint lacks weights of its own architecture ({', '.join(missing[:3])}…); they would be "
            "random. Give a complete checkpoint" + (", or another pooling." if needs_pooler else ".")
        )
    return model.eval().requires_grad_(False)


class TextEncoder(_Encoder):
    """Token features (T, D) of a text, special tokens included."""

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str, needs_pooler: bool = False) -> None:
        super().__init__(source, settings, device, precision, needs_pooler)
        import transformers

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
        positions = self.config.max_position_embeddings
        if self.config.model_type in ("roberta", "xlm-roberta", "camembert", "data2vec-text"):
            positions -= self.config.pad_token_id + 1  # their positions start behind the padding index
        self.max_tokens = min(settings.max_tokens or positions, positions)
        self.case = settings.case
        self.budget = 1024 if device == "cpu" else 32768  # on two cores, larger batches fall out of the cache

    def prepare(self, text: str) -> Prepared:
        """Tokenises a text. A text longer than `max_tokens` is cut and marked as truncated."""
        if self.case == "lower":
            text = text.lower()
        elif self.case == "sentence":
            text = text[:1] + text[1:].lower()
        ids = self.tokenizer(text, verbose=False)["input_ids"]
        truncated = len(ids) > self.max_tokens
        if truncated:
            ids = self.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        return self._prepared(np.asarray(ids, dtype=np.int64), truncated)

    def _prepared(self, ids: np.ndarray, truncated: bool) -> Prepared:
        return Prepared(ids, len(ids), len(ids), truncated)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """Computes the features of each utterance, (T, D) float32."""
        import torch

        with torch.inference_mode():
            hidden, _ = self._run(batch)
            hidden = hidden.float().cpu().numpy()
        return [hidden[row, : item.length].copy() for row, item in enumerate(batch)]

    def _run(self, batch: Sequence[Prepared]) -> Any:
        import torch

        longest = max(len(item.values) for item in batch)
        ids = np.full((len(batch), longest), self.tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, item in enumerate(batch):
            ids[row, : len(item.values)] = item.values
            mask[row, : len(item.values)] = 1
        self._mask = torch.from_numpy(mask).to(self.device)
        return self._hidden(self.model, input_ids=torch.from_numpy(ids).to(self.device), attention_mask=self._mask)


class SentenceEncoder(TextEncoder):
    """One embedding (1, D) of a text."""

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str) -> None:
        self.pooling = pooling(settings, source)
        super().__init__(source, settings, device, precision, needs_pooler=self.pooling == "pooler")

    def _prepared(self, ids: np.ndarray, truncated: bool) -> Prepared:
        return Prepared(ids, 1, len(ids), truncated)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """Computes the embedding of each utterance, (1, D) float32."""
        import torch

        with torch.inference_mode():
            hidden, output = self._run(batch)
            if self.pooling == "mean":
                weights = self._mask[:, :, None].float()
                pooled = (hidden.float() * weights).sum(1) / weights.sum(1)
            else:
                pooled = hidden[:, 0] if self.pooling == "cls" else output.pooler_output
            return list(pooled.float().cpu().numpy()[:, None, :])


class AudioEncoder(_Encoder):
    """Frame features (T, D) of 16 kHz speech, 50 frames a second for Data2Vec."""

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str) -> None:
        super().__init__(source, settings, device, precision)
        import transformers

        self.source, self.precision = source, precision
        self.extractor = transformers.AutoFeatureExtractor.from_pretrained(source.folder, local_files_only=True)
        if self.extractor.sampling_rate != SAMPLE_RATE_HZ:
            raise InputError(
                f"{source.name}: expects {self.extractor.sampling_rate} Hz, but the pipeline decodes to {SAMPLE_RATE_HZ} Hz."
            )
        self.batched = self.config.model_type == _BATCHED_AUDIO
        self.budget = 30_000 if self.batched and device != "cpu" else 0  # on a CPU batches of audio gain nothing
        self._padding: torch.Tensor | None = None
        if self.batched:
            for layer in self.model.encoder.pos_conv_embed.layers:
                layer.register_forward_hook(self._zero_padding)

    def _zero_padding(self, _module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        # Without this, each positional convolution reads the padding as the one before left it: bias, layer norm, GELU, not zeros.
        return output if self._padding is None else output.masked_fill(self._padding[:, None, :], 0)

    def frames(self, num_samples: int) -> int:
        """Returns the frames that the front end makes of `num_samples`: 96,000 → 299 for Data2Vec; 0 or less for too few samples."""
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    def prepare(self, waveform: np.ndarray) -> Prepared:
        """Normalises a waveform (S,) as the model's own feature extractor does.

        Raises:
            InputError: The waveform is shorter than one frame.
        """
        frames = self.frames(len(waveform))
        if frames < 1:
            raise InputError(f"{len(waveform)} samples at {SAMPLE_RATE_HZ} Hz are too short for one frame of {self.config.model_type}")
        values = self.extractor(waveform, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")["input_values"][0]
        return Prepared(np.asarray(values, dtype=np.float32), frames, frames)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """Computes the features of each utterance, (T, D) float32; clips of one to three frames in float64, see `_FEW_FRAMES`."""
        import torch

        exact = [self.batched and self.precision == "float32" and item.length < _FEW_FRAMES for item in batch]
        usual = [item for item, is_exact in zip(batch, exact, strict=True) if not is_exact]
        groups = [usual] if self.batched and usual else [[item] for item in usual]
        with torch.inference_mode():
            features = iter([rows for group in groups for rows in self._run(group)])
            return [self._run_exactly(item) if is_exact else next(features) for item, is_exact in zip(batch, exact, strict=True)]

    @cached_property
    def _exact_model(self) -> Any:
        return _load(self.source, needs_pooler=False).double().to(self.device)

    def _run_exactly(self, item: Prepared) -> np.ndarray:
        import torch

        values = torch.from_numpy(item.values)[None].double().to(self.device)
        hidden, _ = self._hidden(self._exact_model, input_values=values)
        return hidden[0].float().cpu().numpy()

    def _run(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        import torch

        longest = max(len(item.values) for item in batch)
        values = np.zeros((len(batch), longest), dtype=np.float32)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, item in enumerate(batch):
            values[row, : len(item.values)] = item.values
            mask[row, : len(item.values)] = 1
        inputs = {"input_values": torch.from_numpy(values).to(self.device, self.dtype)}
        if not mask.all():
            lengths = torch.tensor([item.length for item in batch], device=self.device)
            self._padding = torch.arange(self.frames(longest), device=self.device) >= lengths[:, None]
            inputs["attention_mask"] = torch.from_numpy(mask).to(self.device)
        try:
            hidden, _ = self._hidden(self.model, **inputs)
        finally:
            self._padding = None
        hidden = hidden.float().cpu().numpy()
        return [hidden[row, : item.length].copy() for row, item in enumerate(batch)]


_CLASSES = {"text": TextEncoder, "audio": AudioEncoder, "sentence": SentenceEncoder}


@lru_cache(maxsize=4)
def load(modality: str, settings: EncoderSettings, device: str, precision: str) -> TextEncoder | AudioEncoder | SentenceEncoder:
    """Loads the encoder of a modality onto its device and keeps it for the next call in the same process."""
    return _CLASSES[modality](locate(modality, settings), settings, device, precision)
