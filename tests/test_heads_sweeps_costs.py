"""The cost of a step, counted, and the size of packs that follows from given speeds."""

import math

import pytest
import small_runs
import torch
from caches import make_cache
from torch.utils.flop_counter import FlopCounterMode

from heads.models.losses import total_loss
from heads.models.parts.randomness import drawing_from
from heads.runs.build import build_head
from heads.runs.rows import labelled_rows
from heads.sweeps.calibration import calibrate
from heads.sweeps.costs import Operations, Speeds, StepCosts, step_costs
from heads.sweeps.sizes import batch_of_size
from heads.training.plan import epoch_plan

FAST = Speeds(launch_s=5e-6, flops=60e12, bytes_per_s=4e12)
LIGHT = StepCosts(launches=2000, launches_per_trial=2, flops=30 * 10**9, traffic_bytes=2 * 10**9)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=60)


def test_a_step_takes_its_launches_once_and_its_work_for_each_trial():
    work = 1e-5 + 5e-4 + 5e-4
    assert LIGHT.seconds(FAST) == pytest.approx(0.010 + work)
    assert LIGHT.seconds(FAST, 8) == pytest.approx(0.010 + 8 * work)


def test_packs_grow_until_launches_are_a_quarter_of_the_other_work():
    assert LIGHT.worthwhile_size(FAST) == math.ceil(0.010 / (1.01e-3 / 4)) == 40
    size = LIGHT.worthwhile_size(FAST)
    limit = 1.01e-3
    assert LIGHT.seconds(FAST, size) / size <= 1.25 * limit < LIGHT.seconds(FAST, size - 1) / (size - 1)


@pytest.mark.parametrize(
    ("speeds", "size"),
    [
        (FAST._replace(launch_s=0.0), 1),
        (FAST._replace(flops=1e9), 1),
        (FAST._replace(bytes_per_s=1e11), 2),
        (Speeds(1.0, 1e15, 1e15), 4000),
    ],
    ids=["launches are free", "slow products", "slow memory", "launches alone"],
)
def test_the_size_follows_from_what_is_slow(speeds, size):
    assert LIGHT.worthwhile_size(speeds) == size


def test_operations_that_launch_are_counted_with_the_bytes_that_they_move():
    left, right = torch.ones(4, 5, device="meta"), torch.ones(5, 6, device="meta")
    bias = torch.ones(1, device="meta").expand(4, 6)
    with Operations() as counted:
        product = left @ right
        product.view(6, 4).t().unsqueeze(0)
        torch.empty(3, device="meta")
        product.add_(bias)
    assert counted.launches == 2
    assert counted.traffic_bytes == 4 * ((20 + 30 + 24) + (24 + 1 + 24))


@pytest.mark.parametrize("head", ["pre-fusion", "mmolre"])
def test_the_arithmetic_is_that_of_a_real_step(cache, head):
    made = small_runs.run_data(cache, head)
    expected = []
    for batch in made.tensors.batches(epoch_plan(made.config, made.tensors, labelled_rows(made.config, made.tensors, "train"), 1)):
        trained = build_head(made.config, made.tensors).train()
        with FlopCounterMode(display=False) as products, drawing_from(torch.tensor(3)):
            total_loss(trained(batch), batch, made.config.loss, made.config.loss.weights()).backward()
        expected.append(products.get_total_flops())
    assert step_costs(made.config, made.tensors).flops in expected
    assert len(set(expected)) > 1


def test_a_wider_head_costs_more_work_and_no_more_launches(cache):
    of_width = [small_runs.run_data(cache, changes={"model.dim": dim}) for dim in (16, 64)]
    small, wide = (step_costs(made.config, made.tensors) for made in of_width)
    assert small.launches == wide.launches > 100
    assert wide.flops > 3 * small.flops
    assert wide.traffic_bytes > 2 * small.traffic_bytes


def test_batches_by_size_are_those_of_an_epoch(cache):
    made = small_runs.run_data(cache, changes={"train.length_multiple": 4})
    plan = epoch_plan(made.config, made.tensors, labelled_rows(made.config, made.tensors, "train"), 1)
    sizes = [tuple(batch.features[m].shape for m in ("text", "audio")) for batch in made.tensors.batches(plan, 4)]
    sizes.sort(key=lambda shapes: shapes[0][0] * (shapes[0][1] + shapes[1][1]))
    for share, place in ((1, -1), (0, 0)):
        found = batch_of_size(made.config, made.tensors, share)
        assert tuple(found.features[m].shape for m in ("text", "audio")) == sizes[place]


def test_a_device_is_measured():
    found = calibrate(torch.device("cpu"), "float32")
    assert 1e-8 < found.launch_s < 1e-2
    assert 1e7 < found.flops < 1e14
    assert 1e7 < found.bytes_per_s < 1e13
    assert calibrate(torch.device("cpu"), "float32") is found
