"""The checkout, for programs that run where it is not installed: importing this puts it and the helpers of its tests on the path."""

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

sys.path += [str(CHECKOUT), str(CHECKOUT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # imports that look for a GPU leave it usable in forks
