"""Small feature files for tests, and facts about them that plain h5py reads according to the specification."""

import itertools
import zlib

import h5py
import numpy as np

from data.feature_store import FeatureStore, FeatureWriter

ATTRIBUTES = {"corpus": "mosi", "identity": {"layer": 12, "max_tokens": None}, "when": "2024-01-01T00:00:00Z"}


def features(lengths, dim=4, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((length, dim)).astype(np.float32) for length in lengths]


def write(path, values, ids=None, dtype="float16", attributes=ATTRIBUTES, order=None, dim=None):
    ids = [f"video_{i}" for i in range(len(values))] if ids is None else ids
    lengths = [len(v) for v in values]
    with FeatureWriter(
        path, ids, lengths, dim or values[0].shape[1], dtype, attributes, [f"{i:012x}" for i in range(len(ids))]
    ) as writer:
        for index in range(len(ids)) if order is None else order:
            writer.write(index, values[index])
    return path


def replace_values(path, rows, value):
    """Write a feature file anew, with this value in all features of the utterances of these rows, and with checksums that fit."""
    with FeatureStore.open(path) as store:
        values = store.read_all()
        ids, offsets, attributes, sources = list(store.ids), store.offsets, store.attrs, list(store.sources)
    with FeatureWriter(path, ids, np.diff(offsets).tolist(), values.shape[1], str(values.dtype), attributes, sources) as writer:
        for index, (start, stop) in enumerate(itertools.pairwise(offsets)):
            writer.write(index, np.full_like(values[start:stop], value) if index in set(rows) else values[start:stop])


def position_of_values(path):
    with h5py.File(path) as file:
        return file["values"].id.get_offset(), file["values"].nbytes


def specified_index_checksum(file):
    """Compute `index_checksum` as specified, from the file alone."""
    facts = {n: t for n, t in file.attrs.items() if n not in ("format", "version", "index_checksum", "when")}
    texts = [part for name in sorted(facts) for part in (name.encode(), facts[name])]
    joined = b"\0".join([*texts, *file["utterance_id"][()].tolist(), *file["source"][()].tolist()])
    return zlib.crc32(joined + file["offsets"][()].astype("<i8").tobytes() + file["checksum"][()].astype("<u4").tobytes())


def flip_bit(path, at, bit=0):
    """Flip one bit of the byte at this place among the values."""
    damage(path, at, 1, lambda old: old ^ np.uint8(1 << bit))


def damage(path, at, count, change):
    """Replace `count` bytes of the values, from `at` on, by what `change` makes of them."""
    content = np.fromfile(path, np.uint8)
    first = position_of_values(path)[0] + at
    content[first : first + count] = change(content[first : first + count])
    path.write_bytes(content.tobytes())
