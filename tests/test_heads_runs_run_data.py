"""The data of a run: device, features, labels, limits."""

import pytest
import small_runs
import torch
from caches import make_cache

from data.errors import InputError
from heads.runs.run_data import LoadedCache, choose_device, memory_bytes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=48)


def test_devices_are_named_or_chosen():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(InputError, match=f"^Device '{name}' cannot be used \\(.*\\)\\. Choose auto, cpu, cuda or cuda:N\\.$"):
        choose_device(name)


def test_pseudo_emotions_without_a_ledger_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"^mosi: the cache has no pseudo-labels for it\. "):
        small_runs.run_data(make_cache(tmp_path), changes={"data.emotions": "pseudo"})


def test_limits_and_modalities_reach_the_tensors(cache):
    tensors = small_runs.run_data(cache, changes={"data.modalities": ["audio"], "data.audio_limit": 4}).tensors
    assert tensors.dims == {"audio": 6}
    assert tensors.lengths["audio"].max() == 4
    unlimited = small_runs.run_data(cache, changes={"data.text_limit": None, "data.audio_limit": None}).tensors
    assert unlimited.lengths["audio"].max() > 20


def test_runs_that_read_the_same_features_share_them(cache):
    loaded = LoadedCache(cache, CPU)
    first, second = (loaded.open(small_runs.config(changes={"seed": seed, "train.lr": 0.1 * seed})) for seed in (1, 2))
    assert first.tensors.targets is second.tensors.targets
    shorter = loaded.open(small_runs.config(changes={"data.text_limit": 3}))
    assert shorter.tensors.lengths["text"].max() == 3 < first.tensors.lengths["text"].max()


@pytest.mark.parametrize(("gigabytes", "expected"), [(None, None), (0, 0), (1.5, 1_500_000_000)])
def test_memory_is_given_in_gigabytes(gigabytes, expected):
    assert memory_bytes(gigabytes) == expected


@pytest.mark.parametrize("gigabytes", [-1, float("inf"), float("nan")])
def test_memory_that_is_no_size_is_refused(gigabytes):
    with pytest.raises(InputError, match=r"^--memory-gb is \S+, expected a number above 0, or 0 to stream everything\.$"):
        memory_bytes(gigabytes)
