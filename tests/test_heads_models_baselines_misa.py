"""MISA: its losses on samples worked out by hand, its subspaces, and what the fusion reads."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from batches import DIMS, pad, random_batch
from torch import Tensor

from heads.models.baselines.misa import MISA, MISAOptions, difference, discrepancy

SMALL = MISAOptions(dim=6, audio_dim=5, ffn=16)
ALTERNATING, HALVES = [1, -1, 1, -1], [1, 1, -1, -1]


def make(options: MISAOptions = SMALL, task: str = "both") -> MISA:
    torch.manual_seed(0)
    return MISA(options, DIMS, task)


def columns(*features: list[int]) -> Tensor:
    """Make (4, d) codes from the values of each feature over the four utterances of a batch."""
    return torch.tensor(features, dtype=torch.float32).t()


def codes(seed: int) -> Tensor:
    return torch.rand(7, 3, generator=torch.Generator().manual_seed(seed))


def test_layer_norms_of_the_fusion_have_the_epsilon_of_torchs_encoder_layer():
    fusion = make().fusion
    assert fusion.after_attend.norm.eps == fusion.after_feed_forward.norm.eps == 1e-5


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (columns(ALTERNATING, [0] * 4), columns(HALVES, [0] * 4), 0.0),
        (columns(ALTERNATING, [0] * 4), columns([0] * 4, HALVES), 0.0),
        (columns(ALTERNATING, [0] * 4), columns(ALTERNATING, [0] * 4), 4.0),
        (columns(ALTERNATING, [0] * 4), columns([0] * 4, ALTERNATING), 4.0),
    ],
    ids=["orthogonal columns", "orthogonal columns, flipped", "identical", "orthogonal rows that vary together"],
)
def test_difference_is_zero_only_for_orthogonal_columns(first, second, expected):
    assert difference(first, second).item() == pytest.approx(expected, abs=1e-4)


def test_difference_is_of_centred_rows_of_norm_one():
    scaled = []
    for values in (codes(1), codes(2)):
        centred = values.numpy() - values.numpy().mean(0)
        scaled.append(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-6))
    assert difference(codes(1), codes(2)).item() == pytest.approx(np.mean((scaled[0].T @ scaled[1]) ** 2), rel=1e-5)


def test_the_norm_in_difference_gets_no_gradient():
    first, second = codes(1).requires_grad_(), codes(2) - codes(2).mean(0)
    norms = [(values - values.mean(0)).norm(dim=1, keepdim=True) + 1e-6 for values in (codes(1), codes(2))]
    expected = (((first - first.mean(0)) / norms[0]).t() @ (second / norms[1])).square().mean()
    found = difference(first, codes(2))
    torch.testing.assert_close(*(torch.autograd.grad(loss, first)[0] for loss in (found, expected)))


def test_a_sample_has_no_discrepancy_from_itself():
    assert discrepancy(codes(1), codes(1)).item() == 0


def test_a_shifted_sample_has_the_length_of_the_shift_as_discrepancy():
    assert discrepancy(codes(1), codes(1) + 0.5).item() == pytest.approx(0.8660, abs=1e-4)


def test_discrepancy_is_of_five_central_moments():
    first, second = codes(1).double().numpy(), codes(2).double().numpy()[:5]
    expected = np.linalg.norm(first.mean(0) - second.mean(0))
    for k in (2, 3, 4, 5):
        expected += np.linalg.norm(((first - first.mean(0)) ** k).mean(0) - ((second - second.mean(0)) ** k).mean(0))
    assert discrepancy(codes(1), codes(2)[:5]).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch", [random_batch(), random_batch({"text": (4,), "audio": (3,)})], ids=["three", "one"])
def test_gradients_of_the_losses_are_finite(batch):
    head = make()
    sum(head(batch).aux.losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


def watched(head: MISA) -> dict[str, list[Tensor]]:
    """Outputs of the head's parts, in the order in which they are computed."""
    seen: dict[str, list[Tensor]] = {}
    for name, part in head.named_modules():
        part.register_forward_hook(lambda _, given, result, name=name: seen.setdefault(name, []).append(result))
    return seen


def test_the_losses_are_those_of_the_codes():
    head, batch = make(replace(SMALL, difference=0.3, similarity=0.7, reconstruction=0.9)), random_batch()
    seen = watched(head)
    losses = head(batch).aux.losses
    private, shared = [seen["private.text"][0], seen["private.audio"][0]], seen["shared"]
    pairs = [(private[0], shared[0]), (private[1], shared[1]), (private[0], private[1])]
    kept = [
        (head.decode[modality](private[row] + shared[row]) - seen[f"project.{modality}"][0]).square().mean()
        for row, modality in enumerate(("text", "audio"))
    ]
    torch.testing.assert_close(losses["difference"], 0.3 * sum(difference(*pair) for pair in pairs))
    torch.testing.assert_close(losses["similarity"], 0.7 * discrepancy(*shared))
    torch.testing.assert_close(losses["reconstruction"], 0.9 * sum(kept) / 2)


def test_the_default_weights_are_the_originals():
    assert (MISAOptions().difference, MISAOptions().similarity, MISAOptions().reconstruction) == (0.3, 1.0, 1.0)


def test_one_encoder_is_shared_and_each_modality_has_its_own():
    head = make()
    seen = watched(head)
    head(random_batch())
    assert (len(seen["shared"]), len(seen["private.text"]), len(seen["private.audio"])) == (2, 1, 1)
    owned = [{id(p) for p in part.parameters()} for part in (head.shared, head.private["text"], head.private["audio"])]
    assert all(not first & second for first, second in combinations(owned, 2))


def test_the_fusion_reads_private_and_shared_codes_as_a_sequence_of_four():
    head, given = make().eval(), []
    seen = watched(head)
    head.fusion.register_forward_pre_hook(lambda _, inputs: given.extend(inputs))
    head(random_batch())
    assert given[0].shape == (3, 4, 6)
    assert torch.equal(given[0], torch.stack([seen["private.text"][0], seen["private.audio"][0], *seen["shared"]], 1))
    assert given[1].all()
    assert (head.join[0].in_features, head.join[0].out_features) == (24, 12)


def test_audio_is_the_last_states_of_two_bidirectional_lstms_with_a_norm_between():
    head, batch = make(), random_batch()
    inputs, mask = batch.features["audio"], batch.masks["audio"]
    found = head.audio(inputs, mask)
    assert found.shape == (3, 20)
    for row, length in enumerate(mask.sum(1)):
        steps, (first, _) = head.audio.first.lstm(head.audio.narrow(inputs[row, :length]))
        _, (second, _) = head.audio.second.lstm(head.audio.norm(steps))
        torch.testing.assert_close(found[row], torch.cat([first.flatten(), second.flatten()]))


def test_recurrent_weights_start_orthogonal():
    for weight in make().audio.first.lstm.weight_hh_l0, make().audio.second.lstm.weight_hh_l0_reverse:
        torch.testing.assert_close(weight.t() @ weight, torch.eye(5))


def test_the_order_of_frames_matters_and_that_of_tokens_does_not():
    head, batch = make().eval(), random_batch({"text": (5, 5), "audio": (7, 7)})
    flipped = {m: batch._replace(features={**batch.features, m: batch.features[m].flip(1)}) for m in batch.features}
    expected = head(batch).sentiment
    torch.testing.assert_close(head(flipped["text"]).sentiment, expected)
    assert (head(flipped["audio"]).sentiment - expected).abs().min() > 1e-5


def test_losses_do_not_depend_on_padding():
    batch, options = random_batch(), replace(SMALL, fusion_dropout=0, output_dropout=0)
    expected = make(options)(batch).aux.losses
    torch.testing.assert_close(make(options)(pad(batch, 4, 50.0)).aux.losses, expected)
