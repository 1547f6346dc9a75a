"""Self-MM's memory of the training split: the generated labels, when they change, and their effect on the loss."""

import math

import pytest
import torch
from batches import random_batch, select
from torch import Tensor
from torch.nn import functional

from data.errors import InputError
from data.tensors import Batch
from heads.models.baselines.self_mm import Memory, SelfMM, SelfMMOptions, made_labels

DIMS = {"text": 6, "audio": 5}
LENGTHS = {"text": (5, 3, 4, 2), "audio": (9, 12, 7, 1)}
ALL = torch.ones(4, dtype=torch.bool)
LIMIT = torch.tensor([3.0])


def a_batch(sentiment: list[float] | None = None) -> Batch:
    batch = random_batch(LENGTHS, DIMS)
    return batch._replace(sentiment=torch.tensor(sentiment or [2.0, -1.0, 0.5, -2.5]))


def shifted(batch: Batch) -> Batch:
    """The same utterances with other features."""
    return batch._replace(features={modality: values + 1 for modality, values in batch.features.items()})


def prepared(task: str = "msa", batch: Batch | None = None, training: Tensor = ALL, **options: object) -> SelfMM:
    batch = a_batch() if batch is None else batch
    torch.manual_seed(0)
    head = SelfMM(SelfMMOptions(**{"dropout": 0.0, **options}), DIMS, task)
    head.prepare(batch.sentiment, batch.emotions, training)
    return head


def train_step(head: SelfMM, batch: Batch, epoch: int) -> dict[str, Tensor]:
    """Do what the trainer does with a batch, without the optimizer, and return the losses."""
    head.begin("all", epoch)
    output = head(batch)
    with torch.no_grad():
        head.remember(batch, output)
    return output.aux.losses


def place_centres(memory: Memory, features: Tensor, positive: float, negative: float) -> None:
    """Centres at these distances from (d,) features, on either side."""
    direction = functional.normalize(torch.ones_like(features), dim=0)
    memory.positive = (features + positive * direction)[None]
    memory.negative = (features - negative * direction)[None]


def place_example(head: SelfMM) -> None:
    """The worked example for the first utterance: relative distances 2 and ½."""
    place_centres(head.memories["fusion"], head.latest["fusion"][0], 1.0, 3.0)
    place_centres(head.memories["text"], head.latest["text"][0], 2.0, 3.0)


def test_a_relative_distance_is_how_much_farther_the_negative_centre_is_than_the_positive():
    memory = Memory(2, 1)
    memory.positive, memory.negative = torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0]])
    assert memory.distance(torch.zeros(1, 2)).item() == pytest.approx((10 - 5) / 5)


def test_the_worked_example_makes_one_half_of_two():
    made = made_labels(torch.tensor([[2.0]]), torch.tensor([[2.0]]), torch.tensor([[0.5]]), LIMIT)
    assert made.item() == pytest.approx(0.5)


def test_equal_relative_distances_leave_the_label():
    truth, distance = torch.tensor([[2.0], [-1.5], [0.0]]), torch.tensor([[0.7], [-0.3], [1.2]])
    assert torch.allclose(made_labels(truth, distance, distance, LIMIT), truth, atol=1e-6)


def test_made_labels_stay_within_the_scale():
    truth, fusion, modality = torch.tensor([[3.0], [-3.0]]), torch.tensor([[0.1], [0.1]]), torch.tensor([[9.0], [9.0]])
    assert made_labels(truth, fusion, modality, LIMIT).flatten().tolist() == [3.0, -3.0]


def test_a_label_of_two_becomes_one_in_the_second_epoch_and_three_quarters_in_the_third():
    head, batch = prepared(), a_batch()
    train_step(head, batch, 1)
    for epoch, label in ((2, 1.0), (3, 0.75)):
        place_example(head)
        train_step(head, batch, epoch)
        assert head.memories["text"].labels[0].item() == pytest.approx(label, abs=1e-5)


def test_a_label_that_is_one_off_counts_with_tanh_of_one():
    head, batch = prepared(), a_batch()
    train_step(head, batch, 1)
    place_example(head)
    train_step(head, batch, 2)
    only = select(batch, 0)
    output = head(only)
    prediction = head.branches["text"](only.features["text"][:, 0])[1]["msa"].item()
    assert math.tanh(1) == pytest.approx(0.7616, abs=1e-4)
    assert output.aux.losses["text/msa"].item() == pytest.approx(math.tanh(1) * abs(prediction - 1.0), rel=1e-4)


@pytest.mark.parametrize("task", ["msa", "mer", "both"])
def test_the_losses_of_the_modalities_are_nothing_in_the_first_epoch_and_something_later(task):
    head, batch = prepared(task), a_batch()
    first, second = train_step(head, batch, 1), train_step(head, batch, 1)
    expected = {f"{m}/{one}" for m in ("text", "audio") for one in head.tasks}
    assert first.keys() == expected
    assert all(loss.item() == 0 for loss in [*first.values(), *second.values()])
    train_step(head, batch, 2)
    assert all(loss.item() > 0 for loss in train_step(head, batch, 2).values())


def test_where_all_are_of_one_class_labels_stay_what_they_are():
    """There is no centre of the other class to measure a distance to."""
    batch = a_batch([-2.0, -1.0, -0.5, -2.5])
    head = prepared(batch=batch)
    for epoch in (1, 2, 3):
        train_step(head, batch, epoch)
    for memory in head.memories.values():
        assert memory.labels.flatten().tolist() == [-2.0, -1.0, -0.5, -2.5]


def test_each_branch_has_the_dropout_of_the_authors_runs_on_mosi():
    head = SelfMM(SelfMMOptions(), DIMS, "msa")
    rates = {name: round(branch.features[0].rate.item(), 6) for name, branch in head.branches.items()}
    assert rates == {"fusion": 0.1, "text": 0.0, "audio": 0.1}


def test_labels_are_made_by_the_centres_of_the_step_before():
    head, batch = prepared(), a_batch()
    train_step(head, batch, 1)
    before = {name: (memory.positive.clone(), memory.negative.clone()) for name, memory in head.memories.items()}
    head.begin("all", 2)
    head(shifted(batch))  # so that the centres behind this step are elsewhere
    distance = {}
    for name, (positive, negative) in before.items():
        near, far = ((head.latest[name] - centre).norm(dim=1, keepdim=True) for centre in (positive, negative))
        distance[name] = (far - near) / (near + 1e-8)
    y = batch.sentiment[:, None]
    ratio = distance["audio"] / (distance["fusion"] + 1e-8)
    made = (0.5 * ratio * y + 0.5 * (y + distance["audio"] - distance["fusion"])).clamp(-3, 3)
    head.remember(batch, None)
    assert torch.allclose(head.memories["audio"].labels, y / 3 + made * 2 / 3, atol=1e-5)
    assert not torch.equal(head.memories["fusion"].positive, before["fusion"][0])


def test_centres_are_the_means_of_the_latest_features_by_the_sign_of_the_current_labels():
    head, batch = prepared(), a_batch()
    train_step(head, batch, 1)
    head.memories["text"].labels[:, 0] = torch.tensor([1.0, -1.0, 0.0, 2.0])
    train_step(head, batch, 1)
    memory, features = head.memories["text"], head.latest["text"]
    assert torch.allclose(memory.positive[0], features[[0, 3]].mean(0))
    assert torch.allclose(memory.negative[0], features[1])


def test_utterances_not_seen_yet_count_as_zeros():
    head, batch = prepared(), a_batch([1.0, 2.0, -1.0, -2.0])
    head.prepare(batch.sentiment, batch.emotions, ALL)
    train_step(head, select(batch, 0, 2), 1)
    assert torch.allclose(head.memories["fusion"].positive[0], head.latest["fusion"][0] / 2)


def test_labels_and_features_of_utterances_outside_the_batch_stay():
    head, batch = prepared(), a_batch()
    train_step(head, batch, 1)
    labels, features = head.memories["text"].labels.clone(), head.memories["text"].features.clone()
    train_step(head, shifted(select(batch, 0, 1)), 2)
    memory = head.memories["text"]
    assert torch.equal(memory.labels[2:], labels[2:])
    assert torch.equal(memory.features[2:], features[2:])
    assert not torch.equal(memory.labels[:2], labels[:2])
    assert not torch.equal(memory.features[:2], features[:2])


def test_the_label_of_the_fusion_is_always_the_true_one():
    head, batch = prepared("both"), a_batch()
    for epoch in (1, 2, 3):
        train_step(head, batch, epoch)
    assert torch.equal(head.memories["fusion"].labels, torch.cat([batch.sentiment[:, None], 2 * batch.emotions - 1], 1))


def test_without_a_positive_label_the_centre_stays_where_it_was():
    head, batch = prepared(), a_batch()
    train_step(head, batch, 1)
    before = head.memories["text"].positive.clone()
    head.memories["text"].labels.fill_(-1.0)
    train_step(head, batch, 1)
    assert torch.equal(head.memories["text"].positive, before)
    assert torch.allclose(head.memories["text"].negative[0], head.latest["text"].mean(0))


def test_unlabelled_utterances_change_neither_loss_nor_centres():
    sentiment = [2.0, -1.0, float("nan"), 1.5]
    head, batch = prepared(batch=a_batch(sentiment)), a_batch(sentiment)
    for epoch in (1, 2):
        train_step(head, batch, epoch)
    memory = head.memories["audio"]
    assert memory.labels[:, 0].isnan().tolist() == [False, False, True, False]
    positive = memory.labels[:, 0] > 0
    assert torch.allclose(memory.positive[0], memory.features[positive].mean(0))
    assert not positive[2]
    assert head(batch).aux.losses["audio/msa"].item() == pytest.approx(head(select(batch, 0, 1, 3)).aux.losses["audio/msa"].item())


def test_labels_of_other_splits_are_not_read():
    training = torch.tensor([True, True, True, False])
    head, other = prepared(training=training), prepared(batch=a_batch([2.0, -1.0, 0.5, 3.0]), training=training)
    batch = select(a_batch(), 0, 1, 2)
    for epoch in (1, 2):
        train_step(head, batch, epoch), train_step(other, batch, epoch)
    for name, buffer in head.named_buffers():
        assert torch.equal(buffer.nan_to_num(99), other.get_buffer(name).nan_to_num(99))


def test_emotions_get_labels_of_their_own_between_minus_one_and_one():
    head, batch = prepared("mer"), a_batch()
    for epoch in (1, 2, 3, 4):
        train_step(head, batch, epoch)
    labels = head.memories["text"].labels
    assert labels.shape == (4, 6)
    assert labels.abs().max() <= 1
    assert not torch.equal(labels, 2 * batch.emotions - 1)
    logits = head.branches["text"](batch.features["text"][:, 0])[1]["mer"]
    each = functional.binary_cross_entropy_with_logits(logits, (labels + 1) / 2, reduction="none")
    expected = ((labels - (2 * batch.emotions - 1)).abs().tanh() * each).mean()
    assert head(batch).aux.losses["text/mer"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_every_parameter_gets_a_gradient_from_the_second_epoch_on():
    head, batch = prepared("both"), a_batch()
    train_step(head, batch, 1), train_step(head, batch, 2)
    output = head(batch)
    (output.sentiment.sum() + output.emotion_logits.sum() + sum(output.aux.losses.values())).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_losses_of_the_modalities_do_not_reach_the_fusion():
    head, batch = prepared(), a_batch()
    train_step(head, batch, 1), train_step(head, batch, 2)
    sum(head(batch).aux.losses.values()).backward()
    assert all(p.grad is None for p in head.branches["fusion"].parameters())
    assert all(p.grad is not None for p in head.audio.parameters())


def test_an_interrupted_run_goes_on_from_its_buffers_alone():
    head, batch = prepared("both"), a_batch()
    for epoch in (1, 2):
        train_step(head, batch, epoch)
    again = prepared("both")
    for name, buffer in again.named_buffers():
        buffer.copy_(head.get_buffer(name))
    assert train_step(head, batch, 3) == train_step(again, batch, 3)
    for name, buffer in again.named_buffers():
        assert torch.equal(buffer, head.get_buffer(name))


def test_preparing_again_forgets_the_run_before():
    head, batch = prepared(), a_batch()
    fresh = {name: buffer.clone() for name, buffer in head.named_buffers()}
    train_step(head, batch, 1), train_step(head, batch, 2)
    head.prepare(batch.sentiment, batch.emotions, ALL)
    assert all(torch.equal(buffer, fresh[name]) for name, buffer in head.named_buffers())


def test_a_checkpoint_holds_nothing_of_the_training_set():
    head = prepared()
    assert head.state_dict().keys() == dict(head.named_parameters()).keys()


def test_evaluation_reads_no_labels_and_changes_no_memory():
    head, batch = prepared(), a_batch()
    train_step(head, batch, 1)
    head.eval()
    latest = head.latest["text"].clone()
    unknown = batch._replace(sentiment=torch.full((4,), torch.nan), index=torch.full((4,), 99))
    output = head(shifted(unknown))
    assert output.aux.losses == {}
    assert torch.equal(head.latest["text"], latest)


def test_the_text_is_its_first_token_or_the_mean_of_its_real_ones():
    batch = a_batch()
    changed = batch._replace(features=batch.features | {"text": batch.features["text"].index_fill(1, torch.tensor([1]), 9.0)})
    for pool, is_same in (("cls", True), ("mean", False)):
        head = prepared(text_pool=pool).eval()
        assert torch.equal(head(batch).sentiment, head(changed).sentiment) == is_same
    with pytest.raises(InputError, match=r"Unknown text_pool 'first'.*Available: cls, mean"):
        prepared(text_pool="first")


def test_audio_learns_at_its_own_rate():
    head = prepared(audio_lr_factor=5.0)
    faster = {name for name, _ in head.named_parameters() if head.lr_factor(name) == 5.0}
    assert faster == {f"audio.{name}" for name, _ in head.audio.named_parameters()}
    assert {head.lr_factor(name) for name, _ in head.named_parameters()} == {1.0, 5.0}


def test_the_wide_audio_encoder_has_128_and_64_units():
    for wide, hidden, width in ((False, 32, 16), (True, 128, 64)):
        head = prepared(wide=wide)
        assert (head.audio.project.in_features, head.audio.project.out_features) == (hidden, width)
        assert head.branches["fusion"].features[1].in_features == DIMS["text"] + width
