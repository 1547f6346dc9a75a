"""The data of runs, loaded from a cache: features on a device, labels, and the configuration with nothing left open.

Runs that read the same features share them: each feature is loaded once. Runs are trained in `heads.training.loop`.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from data.cache import CachedCorpus, open_corpus
from data.errors import InputError, shown
from data.feature_sets import DEFAULT, modality_of
from data.feature_store import FeatureStore
from data.labels import LabelSet
from data.lookup import expect
from data.schema import MODALITIES
from data.targets import Targets, load_targets
from data.tensors import CorpusTensors, left_out
from heads.models.inputs import MIX
from heads.models.tasks import TASKS
from heads.runs.config import RunConfig, default_precision, with_labels, with_precision
from heads.runs.streams import sets_of, streams_of


@dataclasses.dataclass(frozen=True)
class RunData:
    """The data of one run."""

    config: RunConfig  # with the source of emotions and the precision settled, and without modalities if no feature is read
    corpus: CachedCorpus
    tensors: CorpusTensors
    streams: Mapping[str, tuple[str, ...]]  # what the head reads → the feature sets that are joined by width in it
    left_out: int = 0  # utterances of which an import joined no features, so that they are not among `tensors`

    @property
    def sets(self) -> tuple[str, ...]:
        """The feature sets that the run reads."""
        return tuple(name for names in self.streams.values() for name in names)


class LoadedCache:
    """The data of several runs from one cache, each feature loaded once."""

    def __init__(
        self, cache: Path, device: torch.device, memory_bytes: int | None = None, corpora: Sequence[CachedCorpus] = ()
    ) -> None:
        """Args:
        cache: Folder that BuildFeatures made.
        device: Holds the features.
        memory_bytes: Features of a run that are larger than this are streamed from disk; 0 streams all.
        corpora: Corpora that are opened as they are here, whatever the index of the cache says.
        """
        self.cache, self.device, self.memory_bytes = cache, device, memory_bytes
        self._corpora = {corpus.name: corpus for corpus in corpora}
        self._targets: dict[tuple[object, ...], Targets] = {}
        self._tensors: dict[tuple[object, ...], CorpusTensors] = {}

    def open(
        self,
        config: RunConfig,
        learned: LabelSet | None = None,
        lacking: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> RunData:
        """Loads the data of one configuration, and settles what depends on corpus and device.

        Args:
            config: The configuration.
            learned: What a finished run predicts; labels of the corpus that mean something else are left out. None: the corpus's own.
            lacking: Modality → ids of utterances that have no features of it, for a run that can do without
                (`train.modality_dropout`); excluded ones among them count.

        Raises:
            InputError: The cache lacks the corpus, features or labels that the configuration asks for.
        """
        config = with_precision(config, default_precision(self.device.type))
        if config.corpus not in self._corpora:
            self._corpora[config.corpus] = open_corpus(self.cache, config.corpus)
        corpus = self._corpora[config.corpus]
        data = config.data if config.reads_features else dataclasses.replace(config.data, modalities=(), text=None, audio=None)
        sets = sets_of(dataclasses.asdict(data))
        _expect_sets(corpus, sets)
        data = dataclasses.replace(data, emotions=self._source(config, corpus))
        despite = tuple(name for names in lacking.values() for name in names)
        labels = self._labels(corpus, data.emotions, data.minimum_similarity if data.emotions == "pseudo" else 0.0, despite)
        labels = labels if learned is None else labels.seen_as(learned)
        config = with_labels(config, labels.labels)
        targets = labels.without(left_out(corpus, [name for names in sets.values() for name in names]))
        streams = streams_of(config.head, corpus, sets, targets.ids)
        limits = _of_streams(streams, {"text": data.text_limit, "audio": data.audio_limit})
        picked = _of_streams(streams, data.layers.picked())
        gaps = _of_streams(streams, lacking)
        key = (corpus.name, tuple(streams.items()), tuple(limits.items()), tuple(picked.items()), str(gaps))
        if key not in self._tensors:
            options = {"modalities": streams, "device": self.device, "limits": limits, "memory_bytes": self.memory_bytes}
            options |= {"lacking": gaps}
            self._tensors[key] = CorpusTensors.load(corpus, targets, layers=picked, **options)
        _expect_layers(config, self._tensors[key], bool(picked))
        tensors = self._tensors[key].relabelled(targets)
        return RunData(dataclasses.replace(config, data=data), corpus, tensors, streams, len(labels) - len(targets))

    def _source(self, config: RunConfig, corpus: CachedCorpus) -> str:
        """Settles the source of emotions that "auto" means for this corpus."""
        source = config.data.emotions
        if source != "auto":
            return source
        annotated = self._labels(corpus, "annotated", 0.0)
        has_none = bool(np.isnan(annotated.emotions[annotated.rows("train")]).all())
        return "pseudo" if has_none and corpus.pseudo_labels and "mer" in TASKS[config.task] else "annotated"

    def _labels(self, corpus: CachedCorpus, source: str, minimum_similarity: float, despite: tuple[str, ...] = ()) -> Targets:
        key = (corpus.name, source, minimum_similarity, despite)
        if key not in self._targets:
            self._targets[key] = load_targets(corpus, source, minimum_similarity, despite)
        return self._targets[key]


def _of_streams(streams: Mapping[str, Sequence[str]], by_modality: Mapping[str, Any]) -> dict[str, Any]:
    """Gives each stream the value of its modality, if that is not None."""
    found = {stream: by_modality.get(modality_of(names[0])) for stream, names in streams.items()}
    return {stream: value for stream, value in found.items() if value is not None}


def _expect_sets(corpus: CachedCorpus, sets: Mapping[str, Sequence[str]]) -> None:
    """Raises InputError if the cache lacks features of a corpus; the message names those that can be used."""
    for modality in sets:
        expect(dict.fromkeys([*MODALITIES, *map(modality_of, corpus.features)]), modality, "modality")
    if not (missing := [name for names in sets.values() for name in names if name not in corpus.features]):
        return
    usable = [modality for modality, names in sets.items() if not set(names) & set(missing)]
    hint = (
        f" To train without: --modalities {' '.join(usable)} (in grids and presets data.modalities: [{', '.join(usable)}])."
        if usable
        else ""
    )
    for modality in (modality for modality, names in sets.items() if set(names) & set(missing)):
        if others := [name for name in corpus.features if modality_of(name) == modality]:
            own = [name.partition(".")[2] or DEFAULT for name in others]
            hint = f" Sets of {modality} that are there (data.{modality}): {', '.join(own)}."
    raise InputError(
        f"{corpus.manifest.parent.parent}: corpus {corpus.name} has no {' and no '.join(missing)} features (there are:"
        f" {', '.join(corpus.features) or 'none'}). A run that was trained with them needs them: add them to the build of this corpus"
        f" and run BuildFeatures again, or give another --cache.{hint}"
    )


def _expect_layers(config: RunConfig, tensors: CorpusTensors, is_picked: bool) -> None:
    """Raises InputError if layers are to be mixed and each feature file holds one; of several, a run may pick one."""
    several = any(len(numbers) > 1 for numbers in tensors.layers.values())
    if getattr(config.model, "adapter", None) == MIX and not several and not is_picked:
        raise InputError(
            f"model.adapter is {shown(MIX)}, but the features of {config.corpus} hold one layer of each modality. Set layers in"
            " luigi.cfg (such as all) and run BuildFeatures again, or choose another adapter."
        )


def open_run_data(config: RunConfig, cache: Path, device: torch.device, memory_bytes: int | None = None) -> RunData:
    """Loads the data of one run; see `LoadedCache`."""
    return LoadedCache(cache, device, memory_bytes).open(config)


def encoders(corpus: CachedCorpus, sets: Sequence[str]) -> dict[str, Any]:
    """Reads feature set → name, weights, settings and width of the encoder that made it."""
    found = {}
    for name in sets:
        with FeatureStore.open(corpus.features[name]) as store:
            found[name] = {"encoder": store.attrs.get("encoder"), "identity": store.attrs.get("identity"), "dim": store.dim}
    return found


def memory_bytes(gigabytes: float | None) -> int | None:
    """Converts --memory-gb, the size of features that a device may hold, to bytes; None, for the default, stays None.

    Raises:
        InputError: The number is below 0 or not finite.
    """
    if gigabytes is None:
        return None
    if not 0 <= gigabytes * 1e9 < math.inf:
        raise InputError(f"--memory-gb is {gigabytes}, expected a number above 0, or 0 to stream everything.")
    return int(gigabytes * 1e9)


def choose_device(name: str) -> torch.device:
    """Chooses a device by name; "auto" is the GPU if there is one, else the CPU.

    Raises:
        InputError: The device is unknown or not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"Device {shown(name)} cannot be used ({str(error).splitlines()[0]}). Choose auto, cpu, cuda or cuda:N."
        ) from error
    return device
