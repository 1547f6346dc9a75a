"""Folders of `.npy` files of another tool, one array (T, D) for each name; read without running any code in them.

`data.interchange.merbench` finds such files by the clips of a corpus; `data.interchange.joined` joins all files of a folder to the
utterances of a corpus.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.errors import InputError, reason
from data.files import read_head, unreadable
from data.fingerprint import KEY_LENGTH, digest, file_digest
from data.interchange.imported import Features


def read_npy(path: Path, feature_set: str) -> Features:
    """Find the `.npy` files in a folder and below it; each is named by its path below the folder, without the ending.

    Args:
        path: The folder.
        feature_set: The name that the features will have.

    Raises:
        InputError: There is no such folder or no such file in it, a file is no array of numbers, or their widths differ.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder, expected one with .npy files, one for each utterance.")
    files = {file.relative_to(path).with_suffix("").as_posix(): file for file in sorted(path.rglob("[!.]*.npy"))}
    if not files:
        raise InputError(f"{path}: no .npy file in this folder or below it, expected one for each utterance.")
    return features_of(files, path, f"{feature_set} of {path.name}")


def features_of(files: Mapping[str, Path], folder: Path, encoder: str) -> Features:
    """Describe the features of some files: name → file below `folder`.

    Raises:
        InputError: A file is no array of numbers, or their widths differ.
    """
    shapes = {name: open_array(file).shape for name, file in files.items()}
    widths = {shape[1]: name for name, shape in shapes.items()}
    if len(widths) > 1:
        raise InputError(
            f"{folder}: {' and '.join(f'{files[one].name} is {width} wide' for width, one in widths.items())}; expected one width."
        )
    sources = {name: file_digest(file)[:KEY_LENGTH] for name, file in files.items()}
    return Features(
        encoder=encoder,
        origin=digest({files[name].name: source for name, source in sources.items()}),
        dim=next(iter(widths)),
        lengths={name: shape[0] for name, shape in shapes.items()},
        sources=sources,
        read=lambda name: np.array(open_array(files[name])),
    )


def open_array(file: Path) -> np.ndarray:
    """Map an array (T, D) from disk. An array (D,) counts as a single step, as in MERBench.

    Raises:
        InputError: The file is no array of numbers.
    """
    if not read_head(file).startswith(b"\x93NUMPY"):
        raise InputError(f"{file}: not a .npy file. Export it again.")
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises any error, for example tokenize.TokenError
        what = f"truncated, damaged, or not an array of numbers ({reason(error)})"
        raise unreadable(file, error) or InputError(f"{file}: {what}.") from error
    values = values[None] if values.ndim == 1 else values
    if values.dtype.kind not in "iuf" or values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"{file}: {values.dtype.name} {values.shape}, expected numbers of shape (steps, width).")
    return values
