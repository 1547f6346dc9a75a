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
from data.label_sets import OPEN, Statement
from data.layers import LayerChoice
from data.lookup import expect, lookup
from data.reporting.audio import LINK, SOURCES
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
METHODS = {
    "full": "all weights learn (of an audio model all but its convolutional front end)",
    "lora": "low-rank adapters beside the linear layers learn, and are merged into them at the end",
    "last_n": "only the last blocks learn",
}
ADAPT_TASKS = {"msa": ("msa",), "mer": ("mer",), "both": ("msa", "mer")}
EMOTIONS_FROM = {
    "auto": "the corpus's own; where it has none, its pseudo-labels",
    "annotated": "the corpus's own",
    "pseudo": "pseudo-labels (section [pseudo_labels])",
}
DEVICES = {"auto": "a CUDA device if there is one, else the CPU", "cpu": "the CPU", "cuda": "a CUDA device, or an error"}


@dataclass(frozen=True)
class CorpusSettings:
    """One corpus: its name in the cache, the reader of its layout (a key of `CORPORA`), its folder, and what is stated about it."""

    name: str
    reader: str
    root: Path
    labels: Statement = OPEN
    test_session: int | None = None  # of IEMOCAP; None: the usual one

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
    adapted: bool = False  # text and audio only; the model is the folder of an encoder that a build has adapted

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
class AdaptSettings:
    """The settings of encoders that learn the task. A 0 stands for the default of the modality and method (see `Recipe`)."""

    corpora: tuple[str, ...] = ()  # corpora whose training splits teach; empty: encoders stay as they are
    modalities: tuple[str, ...] = ("text",)
    tasks: str = "msa"
    emotions: str = "auto"
    minimum_similarity: float = 0.0  # of pseudo-labels
    method: str = "full"
    last_blocks: int = 4  # of last_n
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    epochs: int = 0
    patience: int = 0  # epochs in a row without a better validation loss
    batch_size: int = 0  # clips of a forward pass
    accumulation: int = 1  # forward passes of an optimiser step
    lr: float = 0.0
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of all steps
    clip_norm: float = 1.0
    seed: int = 1
    precision: str = "float32"
    gradient_checkpointing: bool = False
    batch_tokens: int = 4096  # text: padded tokens of a forward pass
    batch_seconds: float = 60.0  # audio: padded seconds of a forward pass
    max_seconds: float = 6.0  # audio: longer clips are cut while the encoder learns

    def __post_init__(self) -> None:
        for modality in self.modalities:
            expect(("text", "audio"), modality, "modality in [adapt] modalities:")
        lookup(ADAPT_TASKS, self.tasks, "[adapt] tasks")
        lookup(EMOTIONS_FROM, self.emotions, "[adapt] emotions")
        lookup(METHODS, self.method, "[adapt] method")
        lookup(PRECISIONS, self.precision, "[adapt] precision")
        for name, (good, expected) in self._ranges().items():
            if not good:
                raise InputError(f"[adapt] {name} is {getattr(self, name)!r}, expected {expected}.")

    def _ranges(self) -> dict[str, tuple[bool, str]]:
        """Name → whether the value is allowed, and what is. Comparisons are False for NaN."""
        zero, one = ("epochs", "patience", "batch_size"), ("accumulation", "last_blocks", "lora_rank", "lora_alpha")
        counts = dict.fromkeys(zero, 0) | dict.fromkeys(one, 1)
        found = {
            name: (getattr(self, name) >= least, f"at least {least or 1}" + (", or 0 for the default" if name in zero else ""))
            for name, least in counts.items()
        }
        return found | {
            "seed": (self.seed >= 0, "at least 0"),
            "modalities": (bool(self.modalities), "at least one of text, audio"),
            "minimum_similarity": (-1 <= self.minimum_similarity <= 1, "a cosine from -1 to 1"),
            "lora_dropout": (0 <= self.lora_dropout < 1, "a number from 0 to below 1"),
            "lr": (0 <= self.lr <= 1, "a number above 0 and up to 1, or 0 for the default"),
            "weight_decay": (0 <= self.weight_decay <= 1, "a number from 0 to 1"),
            "warmup": (0 <= self.warmup <= 1, "a share from 0 to 1"),
            "clip_norm": (0 < self.clip_norm <= 1e6, "a number above 0"),
            "batch_tokens": (self.batch_tokens >= 1, "at least 1"),
            "batch_seconds": (0.1 <= self.batch_seconds <= 1e6, "at least 0.1 s"),
            "max_seconds": (0.1 <= self.max_seconds <= 1e6, "at least 0.1 s"),
        }


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
    decoders: int = 0  # of each worker; 0: chosen by the device
    players: str = LINK  # sounds of the report's players
    targets: tuple[str, ...] = ()  # corpora that get pseudo-labels
    donors: tuple[str, ...] = ()  # corpora that give pseudo-labels
    rule: Rule = field(default_factory=Rule)
    adapt: AdaptSettings = field(default_factory=AdaptSettings)

    def __post_init__(self) -> None:
        for modality in self.modalities:
            expect(("text", "audio", *self.sets), modality, "modality in [corpora] modalities:")
        lookup(DTYPES, self.dtype, "[build] dtype")
        lookup(PRECISIONS, self.precision, "[build] precision")
        lookup(BAD_MEDIA, self.on_bad_media, "[build] on_bad_media")
        lookup(DEVICES, self.device, "[build] device")
        lookup(SOURCES, self.players, "[build] players")
        if self.shard_clips < 1:
            raise InputError(f"[build] shard_clips is {self.shard_clips}, expected at least 1.")
        if self.decoders < 0:
            raise InputError(f"[build] decoders is {self.decoders}, expected 0 (automatic) or at least 1.")
        names = [corpus.name for corpus in self.corpora]
        if not names:
            raise InputError("No corpus is configured. Give at least one root in the [corpora] section of luigi.cfg.")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"Corpus name {repeated[0]!r} is used twice. Give every corpus a name of its own.")
        for section, setting in (("corpora", "features"), ("pseudo_labels", "targets"), ("pseudo_labels", "donors")):
            for name in getattr(self, setting):
                expect(names, name, f"corpus in [{section}] {setting}:")
        for name in self.adapt.corpora:
            expect(names, name, "corpus in [adapt] corpora:")
        for modality in self.adapt.modalities if self.adapt.corpora else ():
            expect(self.modalities, modality, "modality in [adapt] modalities, which has to be in [corpora] modalities:")
        for name in self.feature_sets if self.adapt.corpora else ():
            if self.encoder(name).adapted and modality_of(name) in self.adapt.modalities:
                raise InputError(f"[{name}] adapted is true, but [adapt] has {modality_of(name)} learn again. Choose one of the two.")

    @property
    def feature_sets(self) -> tuple[str, ...]:
        """The sets of token features that `modalities` asks for, text before audio, in each the one without a name first."""
        known = [name for modality in ("text", "audio") for name in (modality, *self.sets) if modality_of(name) == modality]
        return tuple(name for name in known if name in self.modalities or modality_of(name) in self.modalities)

    def encoder(self, feature_set: str) -> EncoderSettings:
        """Returns the encoder of "text", "audio", "sentence" or of one of `sets`."""
        return {"text": self.text, "audio": self.audio, "sentence": self.sentence, **self.sets}[feature_set]
