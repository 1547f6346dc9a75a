"""The data of runs, loaded from a cache: features on a device, labels, and the configuration with the source of emotions settled.

Runs that read the same features share them: each feature is loaded once. Runs are trained in `heads.training.loop`.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.cache import CachedCorpus, open_corpus
from data.errors import InputError, shown
from data.feature_store import FeatureStore
from data.lookup import expect
from data.schema import MODALITIES
from data.targets import Targets, load_targets
from data.tensors import CorpusTensors
from heads.models.inputs import MIX
from heads.models.tasks import TASKS
from heads.runs.config import RunConfig


@dataclasses.dataclass(frozen=True)
class RunData:
    """The data of one run."""

    config: RunConfig  # with the source of emotions settled, and without modalities if no feature is read
    corpus: CachedCorpus
    tensors: CorpusTensors


class LoadedCache:
    """The data of several runs from one cache, each feature loaded once."""

    def __init__(self, cache: Path, device: torch.device, memory_bytes: int | None = None) -> None:
        """Args:
        cache: Folder that BuildFeatures made.
        device: Holds the features.
        memory_bytes: Features of a run that are larger than this are streamed from disk; 0 streams all.
        """
        self.cache, self.device, self.memory_bytes = cache, device, memory_bytes
        self._corpora: dict[str, CachedCorpus] = {}
        self._targets: dict[tuple[object, ...], Targets] = {}
        self._tensors: dict[tuple[object, ...], CorpusTensors] = {}

    def open(self, config: RunConfig) -> RunData:
        """Loads the data of one configuration.

        Raises:
            InputError: The cache lacks the corpus, features or labels that the configuration asks for.
        """
        if config.corpus not in self._corpora:
            self._corpora[config.corpus] = open_corpus(self.cache, config.corpus)
        corpus = self._corpora[config.corpus]
        modalities = config.data.modalities if config.reads_features else ()
        _expect_modalities(corpus, modalities)
        data = dataclasses.replace(config.data, modalities=modalities, emotions=self._source(config, corpus))
        targets = self._labels(corpus, data.emotions, data.minimum_similarity if data.emotions == "pseudo" else 0.0)
        limits = {name: limit for name, limit in (("text", data.text_limit), ("audio", data.audio_limit)) if limit is not None}
        picked = {name: numbers for name, numbers in data.layers.picked().items() if name in data.modalities}
        key = (corpus.name, data.modalities, tuple(limits.items()), tuple(picked.items()))
        if key not in self._tensors:
            options = {"modalities": data.modalities, "device": self.device, "limits": limits, "memory_bytes": self.memory_bytes}
            options["layers"] = picked
            self._tensors[key] = CorpusTensors.load(corpus, targets, **options)
        _expect_layers(config, self._tensors[key], bool(picked))
        return RunData(dataclasses.replace(config, data=data), corpus, self._tensors[key].relabelled(targets))

    def _source(self, config: RunConfig, corpus: CachedCorpus) -> str:
        """Settles the source of emotions that "auto" means for this corpus."""
        source = config.data.emotions
        if source != "auto":
            return source
        annotated = self._labels(corpus, "annotated", 0.0)
        has_none = bool(np.isnan(annotated.emotions[annotated.rows("train")]).all())
        return "pseudo" if has_none and corpus.pseudo_labels and "mer" in TASKS[config.task] else "annotated"

    def _labels(self, corpus: CachedCorpus, source: str, minimum_similarity: float) -> Targets:
        key = (corpus.name, source, minimum_similarity)
        if key not in self._targets:
            self._targets[key] = load_targets(corpus, source, minimum_similarity)
        return self._targets[key]


def _expect_modalities(corpus: CachedCorpus, asked: Sequence[str]) -> None:
    """Raises InputError if the cache lacks a modality of a corpus; the message names the modalities that can be used."""
    for modality in asked:
        expect(dict.fromkeys([*MODALITIES, *corpus.features]), modality, "modality")
    if not (missing := [modality for modality in asked if modality not in corpus.features]):
        return
    usable = [modality for modality in asked if modality in corpus.features]
    hint = (
        f" To train without: --modalities {' '.join(usable)} (in grids and presets data.modalities: [{', '.join(usable)}])."
        if usable
        else ""
    )
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


def encoders(corpus: CachedCorpus, modalities: tuple[str, ...]) -> dict[str, Any]:
    """Reads modality → name, weights, settings and width of the encoder that made the features."""
    found = {}
    for modality in modalities:
        with FeatureStore.open(corpus.features[modality]) as store:
            found[modality] = {"encoder": store.attrs.get("encoder"), "identity": store.attrs.get("identity"), "dim": store.dim}
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
