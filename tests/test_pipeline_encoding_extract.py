"""Batches, windows and the thread that decodes: every utterance is encoded once, whatever fits into memory."""

import dataclasses
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import write_wav

from data.errors import InputError
from pipeline.encoding import decoding, extract
from pipeline.encoding.encoder import Prepared

costs = st.lists(st.integers(1, 300), max_size=60)


@dataclasses.dataclass
class Doubler:
    """An encoder that gives twice what it gets, one row a value, and has memory for so many tokens."""

    memory: int = 10**9
    budget: int = 64
    device: str = "cpu"
    batches: list = dataclasses.field(default_factory=list)

    def prepare(self, value):
        if not len(value):
            raise InputError("nothing in it")
        return Prepared(np.asarray(value, np.float32), len(value), len(value))

    def encode(self, batch):
        if len(batch) * max(item.cost for item in batch) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.batches.append(len(batch))
        return [2 * item.values[:, None] for item in batch]


def items(lengths):
    return [(index, Prepared(np.full(n, index, np.float32), n, n)) for index, n in enumerate(lengths)]


@given(costs, st.integers(0, 1000))
def test_batches_are_a_partition_within_the_budget_of_like_costs(costs, budget):
    groups = extract.batches(costs, budget)
    assert sorted(index for group in groups for index in group) == list(range(len(costs)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(costs[index] for index in group) <= budget
    flat = [costs[index] for group in groups for index in group]
    assert flat == sorted(costs, reverse=True)


@given(costs)
def test_without_a_budget_every_utterance_is_a_batch_of_its_own(costs):
    assert all(len(group) == 1 for group in extract.batches(costs, 0))


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(1, 40), max_size=30), memory=st.integers(40, 300), window=st.integers(1, 2000))
def test_every_utterance_is_written_once_with_its_own_features(lengths, memory, window):
    encoder, written, progress = Doubler(memory), {}, []

    def write(index, features):
        assert index not in written
        written[index] = features

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract, "WINDOW_BYTES", window)
        extract.extract(encoder, iter(items(lengths)), write, progress.append)
    assert sum(progress) == len(lengths)
    assert sorted(written) == list(range(len(lengths)))
    for index, features in written.items():
        np.testing.assert_array_equal(features, np.full((lengths[index], 1), 2 * index, np.float32))


def test_no_more_than_a_window_is_held_at_a_time(monkeypatch):
    monkeypatch.setattr(extract, "WINDOW_BYTES", 40)  # ten values
    windows = list(extract._windows(items([4, 4, 4, 4, 25, 1])))
    assert [[index for index, _ in window] for window in windows] == [[0, 1, 2], [3, 4], [5]]


def test_a_batch_is_halved_until_it_fits_and_keeps_its_order():
    encoder = Doubler(memory=20)
    batch = [item for _, item in items([5, 5, 5, 5, 5, 5, 5])]
    features = extract.encode(encoder, batch)
    assert [int(row[0, 0]) for row in features] == [0, 2, 4, 6, 8, 10, 12]
    assert max(encoder.batches) <= 4
    assert sum(encoder.batches) == 7


def test_an_utterance_that_fits_nowhere_is_an_error_and_no_endless_loop():
    with pytest.raises(InputError, match="The cpu device has too little memory for one utterance of 30 tokens"):
        extract.encode(Doubler(memory=20), [item for _, item in items([5, 30])])


def test_an_utterance_that_cannot_be_encoded_is_named():
    inputs = [(0, [1.0]), (1, [])]
    with pytest.raises(InputError, match=r"^b: nothing in it$"):
        list(extract.prepare(Doubler(), inputs, ["a", "b"]))


def test_prefetch_keeps_the_order_and_runs_ahead_by_no_more_than_its_depth():
    taken = []

    def produce():
        for number in range(20):
            taken.append(number)
            yield number

    ahead = extract._prefetch(produce(), 3)
    assert next(ahead) == 0
    time.sleep(0.1)
    assert len(taken) <= 1 + 3 + 1  # given, waiting, and in the producer's hand
    assert list(ahead) == list(range(1, 20))


def test_prefetch_raises_what_its_producer_raises_after_what_came_before():
    def produce():
        yield 1
        raise InputError("clip 7 is damaged")

    ahead = extract._prefetch(produce(), 4)
    assert next(ahead) == 1
    with pytest.raises(InputError, match="clip 7 is damaged"):
        next(ahead)


def test_prefetch_stops_its_thread_when_the_consumer_stops():
    threads = threading.active_count()
    closed = threading.Event()

    def produce():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    ahead = extract._prefetch(produce(), 2)
    next(ahead)
    assert threading.active_count() == threads + 1
    ahead.close()
    assert threading.active_count() == threads
    del ahead
    assert closed.wait(5)


def test_a_failing_encoder_leaves_no_thread_behind():
    threads = threading.active_count()
    with pytest.raises(InputError, match="has too little memory"):
        extract.extract(Doubler(memory=1), iter(items([5] * 200)), lambda index, features: None)
    assert threading.active_count() == threads


def table(rows):
    return pd.DataFrame(rows, columns=["utterance_id", "media", "start_s", "end_s", "duration_s"])


def test_segments_are_cut_from_a_recording_that_is_decoded_once(tmp_path, monkeypatch):
    ramp = np.linspace(-0.5, 0.5, 16_000)
    write_wav(tmp_path / "whole.wav", ramp)
    write_wav(tmp_path / "clip.wav", ramp[:4_000])
    decoded = []
    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda path: decoded.append(path.name) or decode(path))
    rows = [("a", "whole.wav", 0.0, 0.5, 0.5), ("b", "whole.wav", 0.5, 1.0, 0.5), ("c", "clip.wav", np.nan, np.nan, 0.25)]
    (_, first), (_, second), (row, third) = extract.waveforms(tmp_path, table(rows))
    assert decoded == ["whole.wav", "clip.wav"]
    assert row == 2
    np.testing.assert_allclose(np.concatenate([first, second]), ramp, atol=1e-4)
    np.testing.assert_allclose(third, ramp[:4_000], atol=1e-4)


def test_recordings_are_decoded_ahead_in_processes_that_stay_for_the_next_shard(tmp_path):
    rows = []
    for number in range(4):
        write_wav(tmp_path / f"{number}.wav", np.linspace(-0.5, 0.5, 8_000 + number))
        rows += [(f"{number}a", f"{number}.wav", 0.0, 0.25, 0.25), (f"{number}b", f"{number}.wav", 0.25, 0.5, 0.25)]
    expected = list(extract.waveforms(tmp_path, table(rows)))
    kept = []
    for _ in range(2):
        found = list(extract.waveforms(tmp_path, table(rows), 2))
        assert [row for row, _ in found] == list(range(8))
        for (_, samples), (_, same) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(samples, same)
        kept.append(decoding._kept[2])
    assert kept[0] is kept[1]
    decoding._kept.pop(2).end()


def test_the_speech_before_a_segment_comes_from_its_recording_and_that_before_a_clip_from_its_video(tmp_path):
    ramp = np.linspace(-0.5, 0.5, 16_000)
    write_wav(tmp_path / "whole.wav", ramp)
    for name, samples in (("one.wav", ramp[:2_000]), ("two.wav", ramp[2_000:4_000])):
        write_wav(tmp_path / name, samples)
    rows = [("a", "whole.wav", 0.0, 0.25, 0.25), ("b", "whole.wav", 0.5, 1.0, 0.5)]
    rows += [("c", "one.wav", np.nan, np.nan, 0.125), ("d", "two.wav", np.nan, np.nan, 0.125)]
    utterances = table(rows).assign(video_id=["v", "v", "w", "w"], speaker="")
    found = list(extract.waveforms_in_context(tmp_path, utterances, 0.1))
    assert [row for row, _, _ in found] == [0, 1, 2, 3]
    for (_, samples, _), (_, alone) in zip(found, extract.waveforms(tmp_path, utterances), strict=True):
        np.testing.assert_array_equal(samples, alone)
    contexts = [before for _, _, before in found]
    assert [len(before) for before in contexts] == [0, 1_600, 0, 1_600]
    np.testing.assert_allclose(contexts[1], ramp[6_400:8_000], atol=1e-4)
    np.testing.assert_allclose(contexts[3], ramp[400:2_000], atol=1e-4)


def test_a_medium_that_changed_since_the_manifest_is_an_error(tmp_path):
    write_wav(tmp_path / "clip.wav", np.zeros(4_000))
    rows = [("a", "clip.wav", np.nan, np.nan, 0.3)]
    with pytest.raises(InputError, match=r"clip\.wav: a has 4000 samples, the manifest says 0\.3 s: the file has changed"):
        list(extract.waveforms(tmp_path, table(rows)))


def test_precision_error_is_the_worst_and_the_relative_difference_of_the_first_utterances():
    class Rounded(Doubler):
        def encode(self, batch):
            return [features + np.float32(0.5) for features in super().encode(batch)]

    pieces = items([2, 3] * 6)
    error = extract.precision_error(Rounded(), Doubler(), iter(pieces))
    exact = np.concatenate([2 * item.values for _, item in pieces[:8]])
    assert error["utterances"] == 8
    assert error["max_abs"] == 0.5
    assert error["relative_l2"] == pytest.approx(0.5 * len(exact) ** 0.5 / np.linalg.norm(exact))
