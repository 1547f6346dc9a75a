"""The encoders: each turns a batch into features, and every utterance gets the features that the model gives for it alone.

Checkpoints are found in `pipeline.encoding.checkpoints`, batches are composed in `pipeline.encoding.extract`, media are decoded in
`data.media`. torch and transformers are imported on use: Luigi forks its workers, which must not inherit a torch that has already run.
"""

from __future__ import annotations

import gc
import inspect
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data.errors import InputError
from data.layers import LayerChoice
from data.media import SAMPLE_RATE_HZ
from pipeline.encoding import pretrained, trial
from pipeline.encoding.checkpoints import Source, frames_averaged, locate, pooling
from pipeline.encoding.context import audio_inputs, pair_layout, text_inputs
from pipeline.settings import EncoderSettings

if TYPE_CHECKING:
    import torch

_BATCHED_AUDIO = "data2vec-audio"
"""The audio architecture whose padded batches can be made exact, by zeroing the padding after each positional convolution. The others
run one clip at a time: wav2vec 2.0's group norm, for example, mixes padding into every frame of the front end."""

_RELATIVE_TYPES = "xlnet"
"""The text architecture that compares the types of two tokens, so that its config.json states no number of types."""

_FEW_FRAMES = 4
"""Clips with fewer frames than this run in float64 in Data2Vec. The layer norm behind each positional convolution divides by the small
spread of so few frames: among 400 clips with one frame of noise, float32 differed from float64 by more than 1e-5 in about 1 %, in
transformers' own arithmetic as well as in ours; among 1,500 clips with four frames, in none."""


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


class _Encoder:
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


class TextEncoder(_Encoder):
    """Token features (T, D) of a text, special tokens included."""

    reads, expects = "input_ids", "an encoder of texts, like BERT or RoBERTa"

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str, trainable: bool = False) -> None:
        self.context = settings.context
        super().__init__(source, settings, device, precision, trainable)
        positions = self._trial.positions or sys.maxsize
        self.max_tokens = min(settings.max_tokens or positions, positions)
        self.case = settings.case
        self.budget = 1024 if device == "cpu" else 32768  # on two cores, larger batches fall out of the cache
        if not self._trial.batches_exactly:
            self.budget = 0

    def _prepare_inputs(self) -> None:
        self._rows = self.model.get_input_embeddings().weight.shape[0]
        self.tokenizer = pretrained.load_tokenizer(self.source.folder, self._rows)
        padding = (self.tokenizer.pad_token_id, self.config.pad_token_id, 0)
        self._padding_id = next(token for token in padding if token is not None and 0 <= token < self._rows)
        self._has_types = False
        if self.context:
            self._layout = pair_layout(self.tokenizer, str(self.source.folder))
            self._has_types = self._takes_types()

    def _takes_types(self) -> bool:
        """Tells whether the model distinguishes the two texts of a pair by token types.

        It then gets the tokenizer's types for every text, also for one that has no context. Without the setting no text has types: to
        BERT this is the same as types 0, to XLNet it is not.
        """
        if "token_type_ids" not in inspect.signature(self.model.forward).parameters:
            return False
        if self.config.model_type == _RELATIVE_TYPES:
            return True
        pair = self.tokenizer("a", "a", return_token_type_ids=True)
        return max(pair["token_type_ids"]) < getattr(self.config, "type_vocab_size", 0)

    def _try(self) -> None:
        self._trial = trial.try_text(self.source.folder, self.model, self._tried)
        self.dim = self._trial.width

    def _tried(self, ids: list[list[int]]) -> torch.Tensor:
        hidden, output = self._run([self._prepared(np.asarray(one), False) for one in ids])
        trial.expect_rows(self.source.folder, self.model, hidden.shape, len(ids[-1]))
        trial.expect_finite(self.source.folder, hidden[-1], self.erased)
        self._expect_pooler(output)
        return hidden

    def _expect_pooler(self, output: Any) -> None:
        """Checks that the output has what the pooling needs; for token features nothing."""

    def prepare(self, text: str, context: Sequence[str] = ()) -> Prepared:
        """Tokenises a text, with the texts before it where the setting `context` is not 0.

        A text longer than `max_tokens` is cut and marked as truncated; see `pipeline.encoding.context` for its context.
        """
        text = self._cased(text)
        if self.context:
            return self._prepared_in_context(text, [self._cased(one) for one in context])
        ids = self.tokenizer(text, verbose=False)["input_ids"]
        truncated = len(ids) > self.max_tokens
        if truncated:
            ids = self.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        self._expect_tokens(ids)
        return self._prepared(np.asarray(ids, dtype=np.int64), truncated)

    def _cased(self, text: str) -> str:
        if self.case == "lower":
            return text.lower()
        return text[:1] + text[1:].lower() if self.case == "sentence" else text

    def _expect_tokens(self, ids: Sequence[int]) -> None:
        if not ids:
            raise InputError(f"the tokenizer of {self.source.name} makes no token of this text")
        if max(ids) >= self._rows:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise InputError(f"the text holds the token {token!r}, for which the embedding of {self.source.name} has no row")

    def _prepared_in_context(self, text: str, context: Sequence[str]) -> Prepared:
        made = text_inputs(self.tokenizer, self._layout, text, context, self.max_tokens)
        self._expect_tokens(made.ids.tolist() if len(made.own) else [])
        types = made.types if self._has_types else None
        return Prepared(made.ids, len(made.own), len(made.ids), made.is_cut, made.own, types, made.is_context_cut)

    def _prepared(self, ids: np.ndarray, truncated: bool) -> Prepared:
        return Prepared(ids, len(ids), len(ids), truncated)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """Computes the features of each utterance, (T, D) float32."""
        import torch

        if self._runs_alone(batch):
            return [rows for item in batch for rows in self.encode([item])]
        with torch.inference_mode():
            hidden, _ = self._run(batch)
            hidden = hidden.float().cpu().numpy()
        return [item.own_rows(rows) for item, rows in zip(batch, hidden, strict=True)]

    def _runs_alone(self, batch: Sequence[Prepared]) -> bool:
        """Tells whether each text of a batch has to run by itself, because padding would change its features."""
        return len(batch) > 1 and not self._trial.batches_exactly

    def _states(self, batch: Sequence[Prepared]) -> torch.Tensor:
        return self._run(batch)[0]

    def _run(self, batch: Sequence[Prepared]) -> Any:
        import torch

        longest = max(len(item.values) for item in batch)
        ids = np.full((len(batch), longest), self._padding_id, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, item in enumerate(batch):
            ids[row, : len(item.values)] = item.values
            mask[row, : len(item.values)] = 1
        self._mask = torch.from_numpy(mask).to(self.device)
        inputs = {"input_ids": torch.from_numpy(ids).to(self.device), "attention_mask": self._mask}
        if self._has_types:
            inputs["token_type_ids"] = torch.from_numpy(self._types(batch, longest)).to(self.device)
        return self._hidden(self.model, **inputs)

    def _types(self, batch: Sequence[Prepared], longest: int) -> np.ndarray:
        types = np.zeros((len(batch), longest), dtype=np.int64)
        for row, item in enumerate(batch):
            if item.types is not None:
                types[row, : len(item.types)] = item.types
        return types


class SentenceEncoder(TextEncoder):
    """One embedding (1, D) of a text."""

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str, trainable: bool = False) -> None:
        self.pooling = pooling(settings, source)
        super().__init__(source, replace(settings, context=0), device, precision, trainable)

    def _expect_pooler(self, output: Any) -> None:
        if self.pooling != "pooler":
            return
        if getattr(output, "pooler_output", None) is None:
            kind = self.config.model_type
            raise InputError(f"{self.source.folder}: a {kind} model has no pooler. Set pooling = mean or cls in luigi.cfg, [sentence].")
        trial.expect_finite(self.source.folder, output.pooler_output, self.erased, ", or another pooling")

    def _prepared(self, ids: np.ndarray, truncated: bool) -> Prepared:
        return Prepared(ids, 1, len(ids), truncated)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """Computes the embedding of each utterance, (1, D) float32."""
        import torch

        if self._runs_alone(batch):
            return [rows for item in batch for rows in self.encode([item])]
        with torch.inference_mode():
            hidden, output = self._run(batch)
            if self.pooling == "mean":
                weights = self._mask[:, :, None].float()
                pooled = (hidden.float() * weights).sum(1) / weights.sum(1)
            else:
                pooled = hidden[:, 0] if self.pooling == "cls" else output.pooler_output
            return list(pooled.float().cpu().numpy()[:, None, :])


class AudioEncoder(_Encoder):
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


_CLASSES = {"text": TextEncoder, "audio": AudioEncoder, "sentence": SentenceEncoder}


Encoder = TextEncoder | AudioEncoder | SentenceEncoder

_kept: dict[tuple[str, EncoderSettings, str], dict[str, Encoder]] = {}
"""What `load` keeps: precision → encoder of the one (modality, settings, device) that this process loaded last."""


def load(modality: str, settings: EncoderSettings, device: str, precision: str) -> Encoder:
    """Loads the encoder of a modality onto its device and keeps it for the next call in the same process.

    Encoders of another modality, of other settings or on another device are dropped first; those of another precision are not, because
    bfloat16 is compared with float32.
    """
    from pipeline.encoding import cpu

    if (modality, settings, device) not in _kept:
        drop()
    kept = _kept.setdefault((modality, settings, device), {})
    if precision not in kept:
        if device == "cpu":
            cpu.keep_freed_memory()
        kept[precision] = make(modality, locate(modality, settings), settings, device, precision)
    return kept[precision]


def drop() -> None:
    """Frees the encoders that `load` keeps."""
    if _kept:
        _kept.clear()
        gc.collect()  # a model and its hooks refer to each other


def kept_on() -> str:
    """Returns the device of the encoder that `load` keeps, or "" without one."""
    return next((device for _, _, device in _kept), "")


def make(
    modality: str,
    source: Source,
    settings: EncoderSettings,
    device: str = "cpu",
    precision: str = "float32",
    trainable: bool = False,
) -> Encoder:
    """Loads and tries an encoder. One that is `trainable` can learn and is slower on a CPU.

    Raises:
        InputError: The checkpoint cannot be used for this modality with these settings.
    """
    return _CLASSES[modality](source, settings, device, precision, trainable)
