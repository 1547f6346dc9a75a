"""A corpus of a cache as a `torch.utils.data.Dataset`, for models that are trained outside of `heads`.

Features and labels are those of `data.tensors` and `data.targets`; here is only their form as items that a DataLoader puts together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from data.cache import open_corpus
from data.errors import InputError, shown
from data.lookup import expect
from data.schema import MODALITIES
from data.targets import Targets, load_targets
from data.tensors import Batch, CorpusTensors, left_out


class Utterance(NamedTuple):
    """One item of a `CorpusDataset`."""

    id: str
    text: str  # the transcript
    features: Mapping[str, Tensor]  # modality → (T, D) float32
    sentiment: Tensor  # () float32, NaN where unlabelled
    emotions: Tensor  # (C,) float32: 1 present, 0 absent, NaN where unlabelled
    index: int  # row of `CorpusDataset.targets`


class CorpusDataset(Dataset[Utterance]):
    """Utterances of one corpus, of all splits or of one. Made by `load_corpus`.

    It may be used by the workers of a DataLoader, whose `collate_fn` is `collate`.

    Attributes:
        targets: Labels, ids, texts, videos and splits of all N utterances of the corpus.
        rows: (n,) int64, the utterances of this dataset among them.
        dims: Modality → D.
        layers: Modality → numbers of the layers that lie side by side in D; empty if there is one.
    """

    def __init__(self, tensors: CorpusTensors, rows: np.ndarray) -> None:
        """Call `load_corpus` instead."""
        self._tensors, self.rows = tensors, rows
        self.dims, self.layers = tensors.dims, tensors.layers

    @property
    def targets(self) -> Targets:
        """Labels, ids, texts, videos and splits of the whole corpus."""
        return self._tensors.targets

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Utterance:
        """Read one utterance; its checksum is compared when it is read for the first time.

        Raises:
            IndexError: `index` is not below the number of utterances.
            InputError: Its features are damaged.
        """
        row = int(self.rows[index])
        one = self._tensors.batch(np.array([row]))
        features = {modality: values[0] for modality, values in one.features.items()}
        return Utterance(self.targets.ids[row], self.targets.text[row], features, one.sentiment[0], one.emotions[0], row)

    def split(self, name: str) -> CorpusDataset:
        """Return the utterances of one split; features are shared.

        Raises:
            InputError: The dataset has no utterance of this split.
        """
        splits = self.targets.split[self.rows]
        expect(dict.fromkeys(splits.tolist()), name, "split")
        return CorpusDataset(self._tensors, self.rows[splits == name])

    @staticmethod
    def collate(items: Sequence[Utterance]) -> Batch:
        """Put utterances together: features (B, T, D) with zeros in the padding, masks (B, T) that are True where a row is real."""
        features, masks = {}, {}
        for modality in items[0].features:
            rows = [item.features[modality] for item in items]
            features[modality] = pad_sequence(rows, batch_first=True)
            lengths = torch.tensor([len(one) for one in rows])
            masks[modality] = torch.arange(features[modality].shape[1]) < lengths[:, None]
        return Batch(
            features,
            masks,
            torch.stack([item.sentiment for item in items]),
            torch.stack([item.emotions for item in items]),
            torch.tensor([item.index for item in items]),
        )


def load_corpus(
    cache: Path | str,
    name: str,
    *,
    split: str | None = None,
    modalities: Sequence[str] | Mapping[str, Sequence[str]] = MODALITIES,
    emotions: str = "annotated",
    minimum_similarity: float = 0.0,
    layers: Mapping[str, Sequence[int]] | None = None,
    limits: Mapping[str, int] | None = None,
) -> CorpusDataset:
    """Open a corpus of a cache as a dataset on the CPU. Features that do not fit into memory are read from disk item by item.

    Args:
        cache: Folder that a build or an import wrote to.
        name: Name of the corpus.
        split: "train", "valid" or "test"; None: all.
        modalities: "text", "audio", or features of other tools by the name of their import. As a mapping: any name → the feature sets
            that are joined by width under it.
        emotions: "annotated", or "pseudo" for the labels of the most similar sentences of other corpora.
        minimum_similarity: Pseudo-labels of less similar donors count as missing.
        layers: Modality → numbers of the layers to use, where several are cached.
        limits: Modality → number of rows to use of each utterance, from the first.

    Raises:
        InputError: The cache, the corpus, a feature set, a layer or a label source is not there or cannot be used.
    """
    corpus = open_corpus(Path(cache), name)
    wanted = modalities if isinstance(modalities, Mapping) else {modality: (modality,) for modality in modalities}
    if not wanted:
        raise InputError(f"modalities is {shown(modalities)}, expected at least one of {', '.join(corpus.features)}.")
    sets = [one for names in wanted.values() for one in names]
    targets = load_targets(corpus, emotions, minimum_similarity).without(left_out(corpus, sets))
    tensors = CorpusTensors.load(corpus, targets, modalities=wanted, device="cpu", limits=limits, layers=layers)
    dataset = CorpusDataset(tensors, np.arange(len(targets)))
    return dataset if split is None else dataset.split(split)
