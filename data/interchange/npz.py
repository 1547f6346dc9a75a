"""A cached corpus as one `.npz`, which `numpy.load` reads without pickle.

    utterance_id, video_id, clip_id, speaker, split, text   (N,) str
    position                                                (N,) int64
    start_s, end_s, duration_s, sentiment                   (N,) float64, NaN where not known
    emotions                                                (N, C) float32 intensities, NaN where unlabelled
    emotion_names                                           (C,) str
    <modality>_features                                     (ΣT, D) float32, the utterances one after the other
    <modality>_lengths                                      (N,) int64, the number of rows of each
    about                                                   () str, JSON: corpus, source of emotions, encoders

`numpy.split(values, numpy.cumsum(lengths)[:-1])` gives the features of each utterance. They are written one by one, so that an export
needs the memory of one utterance.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.atomic import atomic_path
from data.cache import CachedCorpus
from data.errors import InputError
from data.interchange.cached import USUAL, Choice, Selection, expect_new, select
from data.interchange.rows import NUMBERS, TEXTS, described

SUFFIX = ".npz"


def export_npz(corpus: CachedCorpus, out: Path, limits: Mapping[str, int], choice: Choice = USUAL) -> list[str]:
    """Write a corpus as one file.

    Args:
        corpus: A corpus of a cache.
        out: The file, which appears complete or not at all.
        limits: Modality → number of rows to keep of each utterance, from the first.
        choice: Features and source of emotions.

    Returns:
        Sentences for the user: what was written and what was left out.

    Raises:
        InputError: `out` exists or has another ending, or the corpus cannot be exported.
    """
    if out.suffix != SUFFIX:
        raise InputError(f"--out is {out}, expected a name that ends in {SUFFIX}.")
    expect_new(out)
    selection = select(corpus, limits, is_labelled=False, choice=choice)
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, values in _columns(selection).items():
            _write(archive, name, values.dtype, values.shape, [values])
        for name, store in selection.stores.items():
            lengths = selection.lengths(name)
            parts = (selection.features(name, utterance) for utterance in selection.table["utterance_id"])
            _write(archive, f"{name}_features", np.dtype(np.float32), (int(lengths.sum()), store.dim), parts)
            _write(archive, f"{name}_lengths", lengths.dtype, lengths.shape, [lengths])
    return [*selection.notes, f"arrays of features: {', '.join(f'{name}_features' for name in selection.stores)}"]


def _columns(selection: Selection) -> dict[str, np.ndarray]:
    table, emotions = selection.table, selection.labels.emotions
    columns = {name: np.array(table[name].tolist(), str if name in TEXTS else None) for name in (*TEXTS, "position", *NUMBERS)}
    return {
        **columns,
        "emotions": table[list(emotions)].to_numpy(np.float32),
        "emotion_names": np.array(emotions),
        "about": np.array(json.dumps(described(selection))),
    }


def _write(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
    """Write one array, whose parts follow each other, as `numpy.savez` does."""
    header = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(header, facts)
    place = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))  # no time, so that the same corpus gives the same bytes
    with archive.open(place, "w", force_zip64=True) as file:
        file.write(header.getvalue())
        for part in parts:
            file.write(np.ascontiguousarray(part).tobytes())
