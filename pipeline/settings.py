"""The settings of a build as plain frozen dataclasses, checked once.

`pipeline.config` fills them from luigi.cfg. The rule of pseudo-labels has its own settings, in `pipeline.pseudo_labels.rule`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.corpora import CORPORA
from data.errors import InputError
from data.feature_sets import modality_of
from data.layers import LayerChoice
from data.lookup import expect, lookup
from pipeline.pseudo_labels import Rule

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLE = CHECKOUT / "data" / "sample"

CASES = {
    "sentence": "first character unchanged, the rest in lower case (as MMML does; MOSI's transcripts are UPPER CASE)",
    "lower": "all characters in lower case",
    "keep": "as in the corpus",
}
POOLINGS = {
    "auto": "pooler for sup-simcse, cls for unsup-simcse, else mean",
    "mean": "mean over all tokens but the padding",
    "cls": "first token, before any pooler",
    "pooler": "the checkpoint's own pooler; refused if the checkpoint lacks its weights",
}
DTYPES = {"float16": "stored in half precision", "float32": "stored in single precision"}
PRECISIONS = {
    "float32": "IEEE single precision throughout",
    "bfloat16": "bfloat16 arithmetic, faster; the report states its error",
}
BAD_MEDIA = {"stop": "the build stops and lists every bad clip", "exclude": "bad clips are excluded by name"}
SHORTEST_CONTEXT_S, LONGEST_CONTEXT_S = 0.1, 60
"""Range of a context of speech. Memory grows with it: up to 64 clips and their contexts are decoded ahead of the encoder."""
DEVICES = {"auto": "a CUDA device if there is one, else the CPU", "cpu": "the CPU", "cuda": "a CUDA device, or an error"}


@dataclass(frozen=True)
class CorpusSettings:
    """One corpus: its name in the cache, the reader of its layout (a key of `CORPORA`) and its folder."""

    name: str
    reader: str
    root: Path

    def __post_init__(self) -> None:
        lookup(CORPORA, self.reader, "corpus reader")
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise InputError(f"[corpora] folders: the name {self.name!r} names files: expected letters, digits, '_', '.' and '-' only.")


@dataclass(frozen=True)
class EncoderSettings:
    """One encoder: its model (bundled name, hub id or folder) and the part of its output that is kept."""

    model: str
    revision: str = ""
    layers: str = "-1"  # text and audio only; as `data.layers.LayerChoice` reads them
    case: str = "sentence"  # text and sentence only
    max_tokens: int = 0  # text and sentence only; 0: as many as the model takes
    pooling: str = "auto"  # sentence only
    context: int = 0  # text only; previous utterances that are read before each text
    context_s: float = 0.0  # audio only; seconds of speech that are read before each clip
    frame_rate_hz: float = 0.0  # audio only; 0: the encoder's own

    def __post_init__(self) -> None:
        lookup(CASES, self.case, "text case")
        lookup(POOLINGS, self.pooling, "pooling")
        LayerChoice.parse(self.layers)
        if not 0 <= self.frame_rate_hz < math.inf:
            raise InputError(f"frame_rate_hz is {self.frame_rate_hz}, expected frames a second, or 0 for as many as the encoder makes.")
        if self.max_tokens < 0 or self.max_tokens in (1, 2):
            raise InputError(f"max_tokens is {self.max_tokens}, expected 0 (as many as the model takes) or at least 3.")
        if self.context < 0:
            raise InputError(f"context is {self.context}, expected 0 (none) or a number of previous utterances.")
        if self.context_s != 0 and not SHORTEST_CONTEXT_S <= self.context_s <= LONGEST_CONTEXT_S:
            raise InputError(
                f"context_s is {self.context_s:g}, expected 0 (none) or {SHORTEST_CONTEXT_S} to {LONGEST_CONTEXT_S} seconds."
            )


@dataclass(frozen=True)
class Settings:
    """All settings of a build."""

    cache: Path
    corpora: tuple[CorpusSettings, ...]
    text: EncoderSettings
    audio: EncoderSettings
    sentence: EncoderSettings
    sets: Mapping[str, EncoderSettings] = field(default_factory=dict)  # further encoders: "text.roberta", "audio.hubert", …
    features: tuple[str, ...] = ()  # corpora that get token features; empty: all
    modalities: tuple[str, ...] = ("text", "audio")  # those token features: modalities with all their sets, or single sets
    dtype: str = "float16"
    precision: str = "float32"
    on_bad_media: str = "stop"
    device: str = "auto"
    shard_clips: int = 512
    targets: tuple[str, ...] = ()  # corpora that get pseudo-labels
    donors: tuple[str, ...] = ()  # corpora that give pseudo-labels
    rule: Rule = field(default_factory=Rule)

    def __post_init__(self) -> None:
        for modality in self.modalities:
            expect(("text", "audio", *self.sets), modality, "modality in [corpora] modalities:")
        lookup(DTYPES, self.dtype, "[build] dtype")
        lookup(PRECISIONS, self.precision, "[build] precision")
        lookup(BAD_MEDIA, self.on_bad_media, "[build] on_bad_media")
        lookup(DEVICES, self.device, "[build] device")
        if self.shard_clips < 1:
            raise InputError(f"[build] shard_clips is {self.shard_clips}, expected at least 1.")
        names = [corpus.name for corpus in self.corpora]
        if not names:
            raise InputError("No corpus is configured. Give at least one root in the [corpora] section of luigi.cfg.")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"Corpus name {repeated[0]!r} is used twice. Give every corpus a name of its own.")
        for section, setting in (("corpora", "features"), ("pseudo_labels", "targets"), ("pseudo_labels", "donors")):
            for name in getattr(self, setting):
                expect(names, name, f"corpus in [{section}] {setting}:")

    @property
    def feature_sets(self) -> tuple[str, ...]:
        """The sets of token features that `modalities` asks for, text before audio, in each the one without a name first."""
        known = [name for modality in ("text", "audio") for name in (modality, *self.sets) if modality_of(name) == modality]
        return tuple(name for name in known if name in self.modalities or modality_of(name) in self.modalities)

    def encoder(self, feature_set: str) -> EncoderSettings:
        """Returns the encoder of "text", "audio", "sentence" or of one of `sets`."""
        return {"text": self.text, "audio": self.audio, "sentence": self.sentence, **self.sets}[feature_set]
