"""Memory that runs out is one error, whoever reports it; other errors stay what they are."""

import numpy as np
import pytest
import torch

from heads.runs.devices import OutOfMemory, watched

CPU = torch.device("cpu")
HELP = r"Make the head smaller by its model options, lower train\.batch_size or --memory-gb, or choose a device with more memory\.$"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("no room"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
    ids=["numpy", "gpu", "cpu"],
)
def test_memory_that_runs_out_is_one_error(error):
    with pytest.raises(OutOfMemory, match=rf"^cpu: out of memory \(.+\)\. {HELP}"), watched(CPU):
        raise error


def test_sizes_that_no_memory_has_are_of_the_same_kind():
    with pytest.raises(OutOfMemory), watched(CPU):
        torch.empty(2**62, 2**10)
    with pytest.raises(OutOfMemory), watched(CPU):
        np.zeros(2**50)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match=r"^shapes$") as caught, watched(CPU):
        raise RuntimeError("shapes")
    assert type(caught.value) is RuntimeError
