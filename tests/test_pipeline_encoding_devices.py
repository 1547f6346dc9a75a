"""Each process gets a device of its own: one process a GPU, and a clear message if there is none."""

import threading

import pytest
import torch

from data.errors import InputError
from pipeline.encoding import devices


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    """A machine that seems to have two GPUs, its locks in a folder of the test."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(devices, "_POLL_S", 0.02)
    return tmp_path


@pytest.mark.parametrize(("visible", "count"), [("0", 1), ("0,1, 3", 3), ("", 0), ("-1", 0), ("GPU-8f2a,GPU-77b1", 2)])
def test_visible_devices_are_counted_as_cuda_counts_them(monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.count_gpus() == count
    assert devices.wants_gpu("auto") == (count > 0)


def test_without_the_variable_the_driver_s_files_are_counted(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "Path", lambda folder: tmp_path if folder == "/dev" else None)
    assert devices.count_gpus() == 3


def test_what_is_set_goes_before_what_is_there(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert not devices.wants_gpu("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.wants_gpu("cuda")


def test_the_cpu_is_for_everybody_at_once(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with devices.claim("auto") as one, devices.claim("cpu") as other:
        assert (one, other) == ("cpu", "cpu")


def test_a_gpu_that_torch_cannot_use_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"device = cuda means a GPU here, but torch .* cannot use one\. .* set device = cpu in"):
        devices.claim("cuda").__enter__()


def test_each_gpu_is_claimed_once_and_a_third_waits_for_one(two_gpus, monkeypatch):
    got, waiting = [], threading.Event()
    monkeypatch.setattr(devices.time, "sleep", lambda seconds: waiting.set() or released.wait(seconds))
    released = threading.Event()

    def third():
        with devices.claim("auto") as device:
            got.append(device)

    with devices.claim("auto") as first:
        with devices.claim("cuda") as second:
            assert (first, second) == ("cuda:0", "cuda:1")
            thread = threading.Thread(target=third)
            thread.start()
            assert waiting.wait(5)
            assert got == []
        released.set()
        thread.join(5)
        assert got == ["cuda:1"]
    assert sorted(path.name for path in two_gpus.iterdir()) == ["mmolre-gpu-2.lock", "mmolre-gpu-5.lock"]


def test_the_gpu_that_holds_the_encoder_is_tried_first(two_gpus):
    with devices.claim("auto", "cuda:1") as first, devices.claim("auto", "cuda:1") as second:
        assert (first, second) == ("cuda:1", "cuda:0")


def test_a_claim_ends_when_its_work_fails(two_gpus):
    claimed = []

    def work():
        with devices.claim("auto") as device:
            claimed.append(device)
            raise RuntimeError

    for _ in range(3):
        with pytest.raises(RuntimeError):
            work()
    assert claimed == ["cuda:0"] * 3


@pytest.mark.parametrize(
    ("flags", "found"), [("fpu amx_bf16 amx_tile", True), ("fpu avx512_bf16", False), ("fpu not_amx_bf16x", False)]
)
def test_instructions_for_bfloat16_are_those_that_linux_lists(monkeypatch, flags, found):
    said = f"processor\t: 0\nmodel name\t: amx_bf16\nflags\t\t: {flags}\nbogomips\t: 1\n"
    monkeypatch.setattr(devices.Path, "read_text", lambda path, encoding: said)
    assert devices.multiplies_bfloat16() is found
