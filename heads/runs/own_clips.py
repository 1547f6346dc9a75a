"""Predictions of a finished run for clips that are in no corpus: which of them can be predicted, and their features opened.

Files and texts are gathered in `data.corpora.own_files`, features are computed by `pipeline` in a process of its own
(`heads.runs.pipeline_process`), and the command that puts it all in order is `heads.commands.predict`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch

from data.cache import CachedCorpus, open_corpus
from data.corpora.own_files import Clip
from data.errors import InputError
from data.feature_sets import modality_of
from data.feature_store import FeatureStore, FeatureWriter
from data.labels import LabelSet
from data.targets import load_targets
from heads.evaluation.predictions import decided
from heads.models.registry import HEADS
from heads.runs.config import RunConfig
from heads.runs.contents import differences
from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache, RunData, encoders
from heads.runs.streams import sets_of

SENTIMENT_CLASSES = (
    "strongly negative", "negative", "weakly negative", "neutral", "weakly positive", "positive", "strongly positive",
)  # fmt: skip
"""Names of the sentiments -3 to 3, or of the sevenths of another scale. Source: Zadeh et al. 2016, MOSI, https://arxiv.org/abs/1606.06259."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A finished run as a reader of clips."""

    folder: RunFolder
    config: RunConfig
    labels: LabelSet  # what it predicts
    encoders: Mapping[str, Mapping[str, Any]]  # feature set → name, identity and width of its encoder
    cache: Path  # where the run found its features

    @classmethod
    def of(cls, folder: RunFolder) -> Self:
        """Reads what a run reads.

        Raises:
            InputError: The run is not finished, or reads no features.
        """
        folder.metrics()
        content = folder.config()
        config = folder.run_config()
        if not config.reads_features:
            raise InputError(f"{folder.path}: the head {config.head} reads no features: it predicts the same for every clip.")
        return cls(folder, config, folder.labels(), content["encoders"], Path(content["made"]["cache"]))

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.config.data.modalities

    @property
    def can_lack(self) -> bool:
        """True if it has learned to do without a modality."""
        return self.config.train.modality_dropout > 0 and not HEADS[self.config.head].simple

    @property
    def reads_before(self) -> bool:
        """True if it matters which clips are before a clip: to the head, or to an encoder with a context."""
        head = HEADS[self.config.head].head
        contexts = (made["identity"].get(name) for made in self.encoders.values() for name in ("context", "context_s"))
        return any(contexts) or (head is not None and head.context)

    def sets(self, modality: str) -> tuple[str, ...]:
        """Returns the feature sets of a modality that it reads."""
        return sets_of(dataclasses.asdict(self.config.data))[modality]

    def is_computed(self, modality: str) -> bool:
        """True if its features of a modality were made by encoders of this program, not by another tool."""
        return all("files" in (self.encoders[name]["identity"] or {}) for name in self.sets(modality))


class Sorted(NamedTuple):
    """Clips by what can be done with them."""

    usable: tuple[Clip, ...]
    failed: dict[str, str]  # name → why it cannot be predicted
    lacking: dict[str, list[str]]  # modality → names of usable clips that have none of it


def sort_clips(reader: Reader, clips: Iterable[Clip], faults: Mapping[str, str], soundless: Mapping[str, str]) -> Sorted:
    """Says which clips a run can predict.

    Args:
        reader: The run.
        clips: Clips with all that is known of them.
        faults: Name of a clip → why its sound cannot be used.
        soundless: Name of a clip → why it has no sound at all: no file, or no sound track in it.
    """
    usable, failed = [], dict[str, str]()
    lacking: dict[str, list[str]] = {modality: [] for modality in reader.modalities}
    for clip in clips:
        lacks = {modality: why for modality in reader.modalities if (why := _lacks(reader, modality, clip, soundless))}
        if "audio" in reader.modalities and clip.name in faults:
            failed[clip.name] = faults[clip.name]
        elif lacks and not reader.can_lack:
            failed[clip.name] = f"{' and '.join(lacks.values())}; the run was trained without train.modality_dropout and needs it"
        elif len(lacks) > 1:
            failed[clip.name] = f"{' and '.join(lacks.values())}; a run can do without one modality only"
        else:
            usable.append(clip if "audio" not in lacks else clip._replace(file=None, start_s=np.nan, end_s=np.nan))
            for modality in lacks:
                lacking[modality].append(clip.name)
    return Sorted(tuple(usable), failed, lacking)


def _lacks(reader: Reader, modality: str, clip: Clip, soundless: Mapping[str, str]) -> str:
    """Says that a clip has nothing of a modality; "" if it has."""
    if not reader.is_computed(modality):
        return f"no {modality} features, which another tool computes"
    if modality == "text":
        return "" if has_words(clip.text) else "no text"
    return soundless.get(clip.name, "")


def has_words(text: str) -> bool:
    """Returns True for a text with a word."""
    return re.search(r"\w", text) is not None


def open_clips(reader: Reader, cache: Path, corpus: str, lacking: Mapping[str, Sequence[str]], device: torch.device) -> RunData:
    """Opens the features of clips as a run reads them.

    Args:
        reader: The run.
        cache: Holds them.
        corpus: Their name in it.
        lacking: Modality → names of clips that have no features of it.
        device: Holds the features.

    Raises:
        InputError: The features are missing, or are not made as those of the run.
    """
    data = dataclasses.replace(reader.config.data, emotions="annotated")  # there are no labels
    config = dataclasses.replace(reader.config, corpus=corpus, data=data)
    cached = open_corpus(cache, corpus)
    absent = {name: made for name, made in reader.encoders.items() if name not in cached.features and lacking.get(modality_of(name))}
    with TemporaryDirectory() as folder:
        run_data = LoadedCache(cache, device, corpora=[_with_empty(cached, Path(folder), absent)]).open(config, reader.labels, lacking)
    run_data = dataclasses.replace(run_data, corpus=cached)
    for name, made in encoders(cached, [name for name in run_data.sets if name not in absent]).items():
        found, wanted = ({part: one[part] for part in ("identity", "dim")} for one in (made, reader.encoders[name]))
        if found != wanted:
            unlike = differences(found, wanted)
            raise InputError(f"{cached.features[name]}: not made as the {name} features of {reader.folder.path}: {unlike}.")
    return run_data


def open_lacking(folder: RunFolder, cache: Path | None, corpus: str | None, device: torch.device) -> RunData | None:
    """Opens a corpus of a cache that has no features of one modality, for a run that can do without it; None if that is not so.

    Args:
        folder: The run's.
        cache: The cache; None: the run's.
        corpus: Its name there; None: the run's corpus.
        device: Holds the features.

    Raises:
        InputError: The run is not finished, or the cache cannot be read.
    """
    content = folder.config()
    if not content["config"].get("train", {}).get("modality_dropout"):
        return None
    reader = Reader.of(folder)
    where, name = cache or reader.cache, corpus or reader.config.corpus
    cached = open_corpus(where, name)
    absent = [modality for modality in reader.modalities if not set(reader.sets(modality)) & set(cached.features)]
    if len(absent) != 1 or not reader.can_lack:
        return None
    return open_clips(reader, where, name, {absent[0]: load_targets(cached).ids}, device)


def _with_empty(corpus: CachedCorpus, folder: Path, absent: Mapping[str, Mapping[str, Any]]) -> CachedCorpus:
    """Returns the corpus with feature files of no utterance, in a folder, for sets that no clip has."""
    features = dict(corpus.features)
    for name, made in absent.items():
        features[name] = folder / f"{name}.h5"
        facts = {"corpus": corpus.name, "modality": modality_of(name), "encoder": made["encoder"], "identity": made["identity"]}
        with FeatureWriter(features[name], [], [], made["dim"], "float16", facts, []):
            pass
    return dataclasses.replace(corpus, features=features)


def cut_clips(run_data: RunData) -> dict[str, int]:
    """Counts the clips of which a run reads only the beginning: modality → number, where there are some."""
    limits = {"text": run_data.config.data.text_limit, "audio": run_data.config.data.audio_limit}
    found = {}
    for name in run_data.sets:
        if (limit := limits.get(modality_of(name))) is not None and name in run_data.corpus.features:
            with FeatureStore.open(run_data.corpus.features[name]) as store:
                averaged = (store.attrs.get("identity") or {}).get("frames_averaged", 1)
                longer = int((store.lengths > -(-limit // averaged)).sum())
            if longer:
                found[modality_of(name)] = max(found.get(modality_of(name), 0), longer)
    return found


def with_words(table: pd.DataFrame, clips: Sequence[Clip], labels: LabelSet) -> pd.DataFrame:
    """Adds to a table of predictions the file and the text of each clip, and names for its numbers.

    Args:
        table: One row a clip, as `heads.runs.evaluate.predict` returns it.
        clips: All clips by name, in the order that the result has.
        labels: What the run predicts.
    """
    by_name = {clip.name: clip for clip in clips}
    order = {name: place for place, name in enumerate(by_name)}
    table = table.drop(columns=[name for name in table if str(name).endswith("_true")])
    table = table.sort_values("utterance_id", key=lambda names: names.map(order), ignore_index=True)
    chosen = [by_name[name] for name in table["utterance_id"]]
    table.insert(1, "media", [str(clip.file or "") for clip in chosen])
    table.insert(2, "text", [clip.text for clip in chosen])
    if "sentiment" in table:
        nearest = (table["sentiment"] * (3 / labels.limit)).clip(-3, 3).round().astype(int) + 3
        table.insert(
            table.columns.tolist().index("sentiment") + 1, "sentiment_class", [SENTIMENT_CLASSES[number] for number in nearest]
        )
    if set(labels.emotions) <= set(table):
        names = np.array(labels.emotions, object)
        rows = decided(table[list(labels.emotions)].to_numpy(float), labels)
        table["emotion" if labels.is_exclusive else "emotions"] = [", ".join(names[row]) or "none" for row in rows]
    return table
