"""What a build is asked to do, as plain frozen dataclasses, checked once. `pipeline.tasks` fills them from luigi.cfg."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from data.corpora import CORPORA
from data.errors import InputError
from data.lookup import expect, lookup
from pipeline.pseudo_labels.rule import Rule

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLE = CHECKOUT / "data" / "sample"

CASES = {
    "sentence": "first character as it is, the rest in lower case (what MMML does; MOSI's transcripts are UPPER CASE)",
    "lower": "everything in lower case",
    "keep": "as it stands in the corpus",
}
POOLINGS = {
    "auto": "pooler for sup-simcse, cls for unsup-simcse, else mean",
    "mean": "mean over the tokens that are not padding",
    "cls": "first token, before any pooler",
    "pooler": "the checkpoint's own pooler; refused if its weights are not in the checkpoint",
}
DTYPES = {"float16": "stored in half precision", "float32": "stored in single precision"}
PRECISIONS = {
    "float32": "IEEE single precision throughout",
    "bfloat16": "bfloat16 arithmetic, faster; the report states its error",
}
BAD_MEDIA = {"stop": "the build stops and lists every bad clip", "exclude": "bad clips are excluded by name"}
DEVICES = {"auto": "a CUDA device if there is one, else the CPU", "cpu": "the CPU", "cuda": "a CUDA device, or an error"}


@dataclass(frozen=True)
class CorpusSettings:
    """One corpus: the name it has in the cache, the reader of its layout (a key of `CORPORA`) and the folder it is in."""

    name: str
    reader: str
    root: Path

    def __post_init__(self) -> None:
        lookup(CORPORA, self.reader, "corpus reader")
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise InputError(f"Corpus name {self.name!r} names files: expected letters, digits, '_', '.' and '-' only.")


@dataclass(frozen=True)
class EncoderSettings:
    """One encoder: model (bundled name, hub id or folder) and what of its output is kept."""

    model: str
    revision: str = ""
    layer: int = -1  # -1: the last hidden state; 0: the embeddings; n: after block n
    case: str = "sentence"  # text and sentence only
    max_tokens: int = 0  # text and sentence only; 0: as many as the model takes
    pooling: str = "auto"  # sentence only

    def __post_init__(self) -> None:
        lookup(CASES, self.case, "text case")
        lookup(POOLINGS, self.pooling, "pooling")
        if self.max_tokens < 0 or self.max_tokens in (1, 2):
            raise InputError(f"max_tokens is {self.max_tokens}, expected 0 (as many as the model takes) or at least 3.")


@dataclass(frozen=True)
class Settings:
    """Everything that a build depends on."""

    cache: Path
    corpora: tuple[CorpusSettings, ...]
    text: EncoderSettings
    audio: EncoderSettings
    sentence: EncoderSettings
    features: tuple[str, ...] = ()  # corpora that get token features; empty: all
    modalities: tuple[str, ...] = ("text", "audio")  # of those token features
    dtype: str = "float16"
    precision: str = "float32"
    on_bad_media: str = "stop"
    device: str = "auto"
    shard_clips: int = 512
    targets: tuple[str, ...] = ()  # corpora that get pseudo labels
    donors: tuple[str, ...] = ()  # corpora that give them
    rule: Rule = field(default_factory=Rule)

    def __post_init__(self) -> None:
        for modality in self.modalities:
            expect(("text", "audio"), modality, "modality")
        lookup(DTYPES, self.dtype, "feature dtype")
        lookup(PRECISIONS, self.precision, "precision")
        lookup(BAD_MEDIA, self.on_bad_media, "on_bad_media")
        lookup(DEVICES, self.device, "device")
        if self.shard_clips < 1:
            raise InputError(f"shard_clips is {self.shard_clips}, expected at least 1.")
        names = [corpus.name for corpus in self.corpora]
        if not names:
            raise InputError("No corpus is configured. Give at least one root in the [corpora] section of luigi.cfg.")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"Corpus name {repeated[0]!r} is used twice; every corpus needs a name of its own.")
        for setting in ("features", "targets", "donors"):
            for name in getattr(self, setting):
                expect(names, name, f"corpus in {setting!r}")

    def encoder(self, modality: str) -> EncoderSettings:
        """The encoder of "text", "audio" or "sentence"."""
        return {"text": self.text, "audio": self.audio, "sentence": self.sentence}[modality]
