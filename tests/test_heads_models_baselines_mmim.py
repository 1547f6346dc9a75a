"""MMIM's two passes, its contrast, its likelihood and its entropy with a memory of batches."""

import math

import pytest
import torch
from batches import random_batch, select
from torch import Tensor

from data.errors import InputError
from data.tensors import Batch
from heads.models.base import HeadOutput
from heads.models.baselines.mmim import MMIM, Likelihood, MMIMOptions, contrastive_loss, entropy
from heads.models.losses import LossOptions, total_loss

DIMS = {"text": 7, "audio": 5}
SIGNS = torch.tensor([1.0, -1.0] * 6)
LENGTHS = {"text": (3,) * 12, "audio": (4, 6) * 6}


def a_batch(seed: int = 0) -> Batch:
    batch = random_batch(LENGTHS, DIMS, seed)
    return batch._replace(sentiment=batch.sentiment.abs() * SIGNS)


def make(task: str = "msa", **options: object) -> MMIM:
    torch.manual_seed(0)
    return MMIM(MMIMOptions(**{"audio_dropout": 0.0} | options), DIMS, task)


def step(head: MMIM, batch: Batch) -> HeadOutput:
    """Do what the trainer does with a batch, without the optimizer."""
    output = head(batch)
    with torch.no_grad():
        head.remember(batch, output)
    return output


def learn(head: MMIM, stage: str, steps: int) -> set[str]:
    """Trains one pass; the names of the parameters that changed."""
    before = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}
    for name, parameter in head.named_parameters():
        parameter.requires_grad_(head.trains(name, stage))
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.1)
    head.begin(stage, 1)
    for number in range(steps):
        output = step(head, a_batch(number))
        total_loss(output, a_batch(number), LossOptions(), LossOptions().weights()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name for name, parameter in head.named_parameters() if not torch.equal(parameter, before[name])}


def covariance(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    return sum(torch.outer(row, row) for row in centred) / len(values)


@pytest.mark.parametrize("task", ["msa", "mer", "both"])
def test_each_pass_trains_what_the_other_leaves_bit_for_bit(task):
    head = make(task)
    names = {name for name, _ in head.named_parameters()}
    gaussian = {name for name in names if name.startswith("mi_")}
    assert MMIM.stages == ("mi", "main")
    assert gaussian
    assert gaussian != names
    assert learn(head, "mi", 2) == gaussian
    assert learn(head, "main", 4) == names - gaussian


def test_the_first_pass_has_no_loss_but_the_likelihood():
    head, batch = make(), a_batch()
    head.begin("mi", 1)
    output = head(batch)
    assert output.sentiment is None
    assert output.emotion_logits is None
    assert output.aux.losses.keys() == {"likelihood"}
    text, audio = batch.features["text"][:, 0], head.audio(batch.features["audio"], batch.masks["audio"])
    assert output.aux.losses["likelihood"].item() == pytest.approx(-head.mi_likelihood(text, audio).item())


def test_evaluation_between_the_passes_predicts_and_reads_no_labels():
    head, batch = make("both"), a_batch()
    head.begin("mi", 1)
    head.eval()
    unlabelled = batch._replace(sentiment=torch.full((12,), torch.nan), emotions=torch.full((12, 6), torch.nan))
    output = head(unlabelled)
    assert output.aux.losses == {}
    assert torch.equal(output.sentiment, head(batch).sentiment)
    assert output.sentiment.isfinite().all()


def test_contrast_of_four_aligned_orthonormal_rows_is_log_of_e_plus_three_minus_one():
    loss = contrastive_loss(torch.eye(4, 6), 5 * torch.eye(4, 6))
    assert loss.item() == pytest.approx(math.log(math.e + 3) - 1, abs=1e-6) == pytest.approx(0.7437, abs=1e-4)


def test_contrast_of_one_utterance_is_nothing():
    assert contrastive_loss(torch.randn(1, 5), torch.randn(1, 5)).item() == pytest.approx(0, abs=1e-6)


def test_contrast_compares_each_vector_with_all_predictions():
    actual, predicted = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    rows = [math.log(2 * math.e) - 1, math.log(2) - 0]  # the second vector is like no prediction, its own included
    assert contrastive_loss(actual, predicted).item() == pytest.approx(sum(rows) / 2, abs=1e-6)


def test_the_likelihood_is_of_a_gaussian_without_its_normaliser():
    torch.manual_seed(0)
    gaussian, text, audio = Likelihood(3, 2), torch.randn(4, 3), torch.randn(4, 2)
    variance = gaussian.log_variance(text).exp()
    expected = [-((gaussian.mean(text) - audio)[i, d] ** 2 / (2 * variance[i, d])) for i in range(4) for d in range(2)]
    assert gaussian(text, audio).item() == pytest.approx(sum(expected).item() / 4, rel=1e-5)


def test_entropy_is_a_quarter_of_both_log_determinants():
    generator = torch.Generator().manual_seed(1)
    positive, negative = torch.randn(5, 4, generator=generator), torch.randn(6, 4, generator=generator)
    neither = torch.randn(2, 4, generator=generator)
    polarity = torch.tensor([1.0] * 5 + [-1.0] * 6 + [0.0, torch.nan])[:, None]
    expected = 0.25 * (covariance(positive).logdet() + covariance(negative).logdet())
    assert entropy(torch.cat([positive, negative, neither]), polarity).item() == pytest.approx(expected.item(), rel=1e-4)


def test_entropy_of_a_covariance_made_by_hand():
    half = math.sqrt(2) * torch.cat([torch.eye(4), -torch.eye(4)])  # covariance: half the unit matrix
    values = torch.cat([half, 2 * half])
    polarity = torch.tensor([1.0] * 8 + [-1.0] * 8)[:, None]
    assert entropy(values, polarity).item() == pytest.approx(0.25 * (4 * math.log(0.5) + 4 * math.log(2)), abs=1e-5)
    assert entropy(half.repeat(2, 1), polarity).item() == pytest.approx(0.5 * 4 * math.log(0.5), rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("members", "rank"), [(4, 4), (7, 0), (7, 1), (7, 3)])
def test_a_singular_covariance_gives_no_entropy_and_no_gradient(members, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    positive = torch.randn(members, rank, generator=generator) @ torch.randn(rank, 4, generator=generator)
    values = torch.cat([positive, torch.randn(9, 4, generator=generator)]).requires_grad_()
    polarity = torch.tensor([1.0] * len(positive) + [-1.0] * 9)[:, None]
    value = entropy(values, polarity)
    value.backward()
    assert value.item() == 0
    assert not values.grad.any()


def test_entropy_is_the_mean_over_the_targets_that_have_one():
    values = torch.randn(14, 4, generator=torch.Generator().manual_seed(0))
    polarity = torch.tensor([[1.0] * 7 + [-1.0] * 7, [1.0, -1.0] * 7, [1.0] * 14]).T
    alone = [entropy(values, polarity[:, [column]]) for column in (0, 1)]
    assert entropy(values, polarity).item() == pytest.approx((sum(alone) / 2).item(), rel=1e-5)


def test_entropy_begins_with_the_third_batch_of_every_epoch():
    head = make()
    for epoch in (1, 2):
        head.begin("main", epoch)
        has = ["entropy" in step(head, a_batch(number)).aux.losses for number in range(4)]
        assert has == [False, False, True, True]


def test_a_longer_memory_delays_the_entropy():
    head = make(memory=2)
    head.begin("main", 1)
    assert ["entropy" in step(head, a_batch(n)).aux.losses for n in range(5)] == [False, False, False, True, True]
    with pytest.raises(InputError, match=r"memory is -1, expected 0 or more\."):
        make(memory=-1)


def test_entropy_knows_of_this_batch_and_the_one_before():
    head, batches = make(), [a_batch(number) for number in range(3)]
    head.begin("main", 1)
    losses = [step(head, batch).aux.losses for batch in batches]
    audio = [head.audio(batch.features["audio"], batch.masks["audio"]) for batch in batches[1:]]
    projected = (torch.cat(audio) @ head.projection.T).tanh()
    positive = torch.cat([batch.sentiment for batch in batches[1:]]) > 0
    expected = 0.25 * (covariance(projected[positive]).logdet() + covariance(projected[~positive]).logdet())
    assert losses[2]["entropy"].item() == pytest.approx(-0.1 * expected.item(), rel=1e-4)


def test_entropy_reaches_the_audio_encoder_through_this_batch_alone():
    head, batches = make(), [a_batch(number) for number in range(3)]
    head.begin("main", 1)
    *_, before, last = (step(head, batch) for batch in batches)
    assert not any(values.requires_grad for values, _ in head.memory)
    last.aux.losses["entropy"].backward()
    assert {name.split(".")[0] for name, p in head.named_parameters() if p.grad is not None} == {"audio"}
    before.aux.losses["cpc"].backward()  # its graph was not consumed


def test_losses_are_weighted():
    batch = a_batch()
    plain, heavy = make()(batch).aux.losses, make(cpc=0.3, mutual_information=0.5)(batch).aux.losses
    assert heavy["cpc"].item() == pytest.approx(3 * plain["cpc"].item(), rel=1e-5)
    assert heavy["likelihood"].item() == pytest.approx(5 * plain["likelihood"].item(), rel=1e-5)
    head = make()
    text, audio = batch.features["text"][:, 0], head.audio(batch.features["audio"], batch.masks["audio"])
    assert plain["likelihood"].item() == pytest.approx(-0.1 * head.mi_likelihood(text, audio).item(), rel=1e-5)


def test_contrast_is_the_sum_over_both_modalities():
    head, batch = make(dropout=0.0), a_batch()
    text, audio = batch.features["text"][:, 0], head.audio(batch.features["audio"], batch.masks["audio"])
    fused = head.fusion(torch.cat([text, audio], -1))
    expected = contrastive_loss(text, head.predict["text"](fused)) + contrastive_loss(audio, head.predict["audio"](fused))
    assert head(batch).aux.losses["cpc"].item() == pytest.approx(0.1 * expected.item(), rel=1e-5)


def test_emotions_split_the_entropy_by_each_of_them():
    head, batches = make("mer"), [a_batch(number) for number in range(3)]
    head.begin("main", 1)
    losses = [step(head, batch).aux.losses for batch in batches][-1]
    audio = torch.cat([head.audio(batch.features["audio"], batch.masks["audio"]) for batch in batches[1:]])
    present = torch.cat([batch.emotions for batch in batches[1:]])
    expected = entropy((audio @ head.projection.T).tanh(), 2 * present - 1)
    assert expected != 0
    assert losses["entropy"].item() == pytest.approx(-0.1 * expected.item(), rel=1e-4)


def test_the_projection_is_fixed_and_in_the_checkpoint():
    head = make()
    assert "projection" in head.state_dict()
    assert "projection" not in dict(head.named_parameters())
    assert head.projection.shape == (4, 16)


def test_matrices_start_as_xavier_has_them():
    head = MMIM(MMIMOptions(), {"text": 300, "audio": 400}, "msa")
    for matrix in (head.fusion[1].weight, head.predict["text"].weight, head.audio.lstm.lstm.weight_ih_l0):
        assert matrix.std().item() == pytest.approx(math.sqrt(2 / sum(matrix.shape)), rel=0.05)


def test_a_batch_of_one_trains():
    head, batch = make(), select(a_batch(), 0)
    head.begin("main", 1)
    outputs = [step(head, batch) for _ in range(3)]
    assert outputs[2].aux.losses["entropy"].item() == 0
    assert outputs[2].aux.losses["cpc"].item() == pytest.approx(0, abs=1e-6)


def test_audio_can_be_read_both_ways_and_wider():
    assert make(bidirectional=True).audio.project.in_features == 2 * make().audio.project.in_features == 32
    assert (make(wide=True).audio.project.in_features, make(wide=True).audio.project.out_features) == (128, 64)


def test_the_last_state_of_the_audio_lstm_is_dropped_out_in_training_alone():
    batch = a_batch()
    head = make(dropout=0.0, audio_dropout=0.5)
    seen = []
    head.audio.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for training in (True, False):
        head.train(training)(batch)
    state = head.audio.lstm(batch.features["audio"], batch.masks["audio"])[1]
    dropped = seen[0] == 0
    assert 0.2 < dropped.float().mean() < 0.8
    torch.testing.assert_close(seen[0][~dropped], 2 * state[~dropped])
    torch.testing.assert_close(seen[1], state)
    assert MMIMOptions().audio_dropout == 0.1
