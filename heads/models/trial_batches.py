"""Random batches for checks of heads, and changes of them that a head must or must not notice. `heads.models.contract` uses them."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from data.tensors import Batch

LENGTHS = {"text": (5, 3, 4), "audio": (9, 12, 7)}
"""Default numbers of time steps of three utterances."""

DIMS = {"text": 8, "audio": 8}


def random_batch(
    lengths: Mapping[str, Sequence[int]] = LENGTHS,
    dims: Mapping[str, int] = DIMS,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Make a batch of noise with labels.

    Args:
        lengths: Modality → real time steps of each utterance; the longest decides the padding, which is zero.
        dims: Modality → D.
        seed: Of features and labels.
        dtype: Of the features.
    """
    generator = torch.Generator().manual_seed(seed)
    features, masks = {}, {}
    for modality, steps in lengths.items():
        masks[modality] = torch.arange(max(steps)) < torch.tensor(steps)[:, None]
        noise = torch.randn(len(steps), max(steps), dims[modality], generator=generator, dtype=dtype)
        features[modality] = noise.masked_fill(~masks[modality].unsqueeze(-1), 0)
    size = len(next(iter(lengths.values())))
    sentiment = torch.rand(size, generator=generator) * 6 - 3
    emotions = (torch.rand(size, 6, generator=generator) > 0.5).float()
    return Batch(features, masks, sentiment, emotions, torch.arange(size))


def select(batch: Batch, *rows: int) -> Batch:
    """Select the utterances at these positions, padded as before."""
    index = torch.tensor(rows)
    features, masks = ({m: values[index] for m, values in part.items()} for part in (batch.features, batch.masks))
    return Batch(features, masks, batch.sentiment[index], batch.emotions[index], batch.index[index])


def trim(batch: Batch) -> Batch:
    """Remove the padding that all utterances have."""
    longest = {modality: int(mask.sum(1).max()) for modality, mask in batch.masks.items()}
    features, masks = ({m: values[:, : longest[m]] for m, values in part.items()} for part in (batch.features, batch.masks))
    return batch._replace(features=features, masks=masks)


def pad(batch: Batch, steps: int, value: float) -> Batch:
    """Add `steps` steps of padding and set all padding to `value`."""
    masks = {modality: _longer(mask.unsqueeze(-1), steps).squeeze(-1) for modality, mask in batch.masks.items()}
    features = {m: _longer(x, steps).masked_fill(~masks[m].unsqueeze(-1), value) for m, x in batch.features.items()}
    return batch._replace(features=features, masks=masks)


def _longer(values: Tensor, steps: int) -> Tensor:
    return torch.cat([values, values.new_zeros(len(values), steps, values.shape[-1])], 1)


def in_videos(batch: Batch, videos: Iterable[Sequence[int]]) -> Batch:
    """Put the utterances of a batch into videos: the rows of each, in their order."""
    videos = [list(video) for video in videos]
    longest = max(map(len, videos))
    return batch._replace(dialogue=torch.tensor([[*video, *[-1] * (longest - len(video))] for video in videos]))


def videos_of(batch: Batch) -> list[list[int]]:
    """List the rows of each video, in their order; each utterance is one where there are no videos."""
    if batch.dialogue is None:
        return [[row] for row in range(len(batch.index))]
    return [[row for row in video if row >= 0] for video in batch.dialogue.tolist()]


def reordered(batch: Batch, *rows: int) -> Batch:
    """Move the utterances to other places of the batch; videos stay unchanged."""
    moved = select(batch, *rows)
    return moved if batch.dialogue is None else in_videos(moved, [[rows.index(row) for row in video] for video in videos_of(batch)])


def alone(batch: Batch, *rows: int) -> Batch:
    """Make a corpus of some utterances, without needless padding; they form one video where there are videos."""
    fewer = trim(select(batch, *rows))._replace(index=torch.arange(len(rows)))
    return fewer if batch.dialogue is None else in_videos(fewer, [range(len(rows))])


def padded_videos(batch: Batch, steps: int) -> Batch:
    """Add padding behind the utterances of each video, if there are videos."""
    return batch if batch.dialogue is None else batch._replace(dialogue=functional.pad(batch.dialogue, (0, steps), value=-1))
