"""Multimodal Routing: its capsules, its routing beside loops over capsules, and the contributions that it tells."""

import dataclasses

import pytest
import torch
from batches import DIMS, random_batch, select, trim

from data.errors import InputError
from heads.evaluation.routing import xray
from heads.models.baselines.mr import MR, MROptions, Routing, crossmodal_groups
from heads.models.losses import LossOptions, total_loss
from heads.models.parts.randomness import Dropout, drawing_from

SMALL = MROptions(width=6, layers=2, heads=2, pose=5)


def make(dims=DIMS, task="mer", **changes):
    """A small head whose decisions are no longer zero."""
    torch.manual_seed(0)
    head = MR(dataclasses.replace(SMALL, **changes), dims, task).eval()
    with torch.no_grad():
        for routing in head.routings.values():
            routing.decisions.normal_()
    return head


def routing(primary=3, decisions=6, pose=4, iterations=1, dropout=0.0):
    torch.manual_seed(0)
    made = Routing(primary, decisions, pose, iterations, dropout).double().eval()
    with torch.no_grad():
        made.decisions.normal_()
    return made


def capsules(primary=3, pose=4):
    generator = torch.Generator().manual_seed(1)
    poses = torch.randn(2, primary, pose, dtype=torch.float64, generator=generator)
    return poses, torch.rand(2, primary, dtype=torch.float64, generator=generator)


def routed_by_loops(made, poses, activations, iterations):
    """Logits and coefficients of one utterance, number by number."""
    primary, decisions, pose, _ = made.votes.shape
    votes = [[poses[i] @ made.votes[i, j] for j in range(decisions)] for i in range(primary)]
    concepts = [sum(votes[i][j] for i in range(primary)) / decisions for j in range(decisions)]
    for _ in range(iterations):
        agreements = [torch.stack([votes[i][j] @ concepts[j] for j in range(decisions)]) / pose**0.5 for i in range(primary)]
        shares = [agreement.exp() / agreement.exp().sum() for agreement in agreements]
        concepts = [sum(activations[i] * shares[i][j] * votes[i][j] for i in range(primary)) for j in range(decisions)]
    return torch.stack([concepts[j] @ made.decisions[j] for j in range(decisions)]), torch.stack(shares)


@pytest.mark.parametrize("iterations", [1, 3])
def test_routing_equals_loops_over_capsules(iterations):
    made, (poses, activations) = routing(iterations=iterations), capsules()
    logits, contributions = made(poses, activations)
    for row in range(2):
        expected, shares = routed_by_loops(made, poses[row], activations[row], iterations)
        torch.testing.assert_close(logits[row], expected)
        torch.testing.assert_close(contributions[row], activations[row][:, None] * shares)


def test_coefficients_of_each_primary_capsule_sum_to_one():
    poses, activations = capsules()
    _, contributions = routing()(poses, activations)
    torch.testing.assert_close(contributions.sum(-1), activations)


def test_a_capsule_without_activation_contributes_nothing():
    """With one decision there is no choice of where to go, and so no influence of it at all."""
    poses, activations = capsules()
    activations[:, 1] = 0
    _, contributions = routing()(poses, activations)
    assert not contributions[:, 1].any()
    assert (contributions[:, [0, 2]] > 0).all()
    made, other = routing(decisions=1), poses.clone()
    other[:, 1] += 1
    torch.testing.assert_close(made(poses, activations)[0], made(other, activations)[0])
    assert not torch.allclose(made(poses, activations.fill_(0.5))[0], made(other, activations)[0])


def test_votes_begin_with_the_spread_of_the_authors_code():
    made = Routing(3, 6, 64, 1, 0.0)
    assert made.votes.std().item() == pytest.approx((6 / (64 * 3)) ** 0.5, rel=0.02)
    assert made.votes.mean().item() == pytest.approx(0, abs=0.01)


def test_decision_capsules_are_dropped_in_training():
    made = routing(pose=64, dropout=0.5)
    assert isinstance(made.dropout, Dropout)
    seen = []
    made.dropout.register_forward_hook(lambda *found: seen.append((found[1][0], found[2])))
    poses, activations = capsules(pose=64)
    with drawing_from(torch.tensor(0)):
        logits, _ = made.train()(poses, activations)
    assert [before.shape for before, _ in seen] == [(2, 6, 64)] * 2, "those that routing begins with, and those of its iteration"
    assert all(0.4 < (after == 0).double().mean() < 0.6 for _, after in seen)
    (_, after) = seen[-1]
    torch.testing.assert_close(logits, (after * made.decisions).sum(-1))


@pytest.mark.parametrize("task", ["msa", "mer", "both"])
def test_all_logits_are_zero_before_training(task):
    output = MR(SMALL, DIMS, task)(random_batch())
    assert [value.abs().max().item() for value in output[:2] if value is not None] == [0] * (1 + (task == "both"))


@pytest.mark.parametrize("bimodal", ["text", "both"])
def test_decisions_learn_first_and_everything_once_they_are_not_zero(bimodal):
    batch, losses = random_batch(), LossOptions()

    def learning(head):
        total_loss(head(batch), batch, losses, losses.weights()).backward()
        return {name for name, value in head.named_parameters() if value.grad.abs().max() > 0}

    torch.manual_seed(0)
    fresh = MR(dataclasses.replace(SMALL, bimodal=bimodal), DIMS, "both")
    assert learning(fresh) == {"routings.msa.decisions", "routings.mer.decisions"}
    head = make(task="both", bimodal=bimodal)
    assert {name for name, _ in head.named_parameters() if not name.endswith("key.bias")} <= learning(head)


def test_two_modalities_make_three_capsules():
    head = make()
    assert list(head.primary) == ["text", "audio", "text_audio"]
    assert list(head.crossmodal) == ["text_from_audio"]
    assert head.routings["mer"].votes.shape == (3, 6, 5, 5)
    both = make(bimodal="both")
    assert list(both.primary) == ["text", "audio", "text_audio"]
    assert list(both.crossmodal) == ["text_from_audio", "audio_from_text"]
    assert (both.joints["text_audio"].in_features, both.joints["text_audio"].out_features) == (12, 6)


def test_the_order_in_which_modalities_come_does_not_matter():
    assert list(make(dims={"audio": 8, "text": 8}).crossmodal) == ["text_from_audio"]


def test_three_modalities_make_seven_capsules():
    head = make(dims={**DIMS, "vision": 4})
    assert list(head.primary) == ["text", "audio", "vision", "text_audio", "audio_vision", "vision_text", "text_audio_vision"]
    assert crossmodal_groups(("t", "a", "v"), "text") == {
        "t_a": [("t", "a")],
        "a_v": [("a", "v")],
        "v_t": [("v", "t")],
        "t_a_v": [("a", "t"), ("v", "a"), ("t", "v")],
    }
    assert head.routings["mer"].votes.shape == (7, 6, 5, 5)
    output = head(random_batch({"text": (5, 3), "audio": (9, 12), "vision": (2, 4)}, head.dims))
    assert len(output.aux.routing) == 7


@pytest.mark.parametrize(("layers", "alone"), [(1, 3), (7, 7)])
def test_a_modality_alone_has_three_layers_at_least(layers, alone):
    head = make(layers=layers)
    assert [len(stack.layers) for stack in head.unimodal.values()] == [alone] * 2
    assert [len(stack.layers) for stack in head.crossmodal.values()] == [layers]


def test_a_capsule_is_made_of_the_last_real_step_of_its_stack():
    head, batch = make(), random_batch()
    found, seen = {}, {}
    for name, stack in (*head.unimodal.items(), ("text_audio", head.crossmodal["text_from_audio"])):
        stack.register_forward_hook(lambda *call, name=name: found.update({name: call[2]}))
        head.primary[name].register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    head(batch)
    for name, last in (("text", [4, 2, 3]), ("audio", [8, 11, 6]), ("text_audio", [4, 2, 3])):
        assert torch.equal(seen[name], found[name][range(3), last])


def test_a_capsule_has_a_pose_and_an_activation():
    head, batch = make(), random_batch()
    raw, seen = {}, []
    for name, layer in head.primary.items():
        layer.register_forward_hook(lambda *call, name=name: raw.update({name: call[2]}))
    head.routings["mer"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    head(batch)
    values = torch.stack([raw[name] for name in ("text", "audio", "text_audio")], 1)
    assert torch.equal(seen[0][0], values[..., :5])
    torch.testing.assert_close(seen[0][1], values[..., 5].sigmoid())


def test_contributions_are_told_by_task_and_capsule():
    head, batch = make(task="both"), random_batch()
    output = head(batch)
    names = ("text", "audio", "text_audio")
    assert {name: tuple(value.shape) for name, value in output.aux.routing.items()} == {
        **{f"msa/{name}": (3, 1) for name in names},
        **{f"mer/{name}": (3, 6) for name in names},
    }
    for name in names:  # of one decision there is nothing to choose: the sum over six is the activation, which is the tasks' own
        torch.testing.assert_close(output.aux.routing[f"mer/{name}"].sum(-1), output.aux.routing[f"msa/{name}"].squeeze(-1))
    gates = {name: value.detach().numpy() for name, value in output.aux.routing.items()}
    report = xray(gates, batch.emotions.numpy())
    assert report["experts"]["mer/text_audio"]["load"] == pytest.approx(gates["mer/text_audio"].mean(0).tolist())


@pytest.mark.parametrize("bimodal", ["text", "both"])
def test_a_clip_gets_the_same_prediction_in_a_batch_as_alone(bimodal):
    head, batch = make(bimodal=bimodal), random_batch()
    together = head(batch).emotion_logits
    for row in range(3):
        torch.testing.assert_close(head(trim(select(batch, row))).emotion_logits, together[row : row + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("dims", "changes", "message"),
    [
        ({"audio": 8}, {}, r"^mr needs text and audio features, got audio\.$"),
        (
            {"text": 8, "audio": 8, "vision": 8, "pose": 8},
            {},
            r"^mr routes two or three modalities, got 4: text, audio, vision, pose\.$",
        ),
        (DIMS, {"bimodal": "audio"}, r"^Unknown bimodal capsule 'audio'\."),
        (DIMS, {"iterations": 0}, r"^iterations is 0, expected 1 or more\.$"),
        (DIMS, {"heads": 4}, "4 attention heads do not divide the width 6"),
    ],
)
def test_what_cannot_be_is_refused(dims, changes, message):
    with pytest.raises(InputError, match=message):
        make(dims, **changes)
