"""Several layers in one pass, their mean, and frames averaged at writing."""

import numpy as np
import pytest
import torch
from tiny_checkpoints import write_audio_checkpoint, write_text_checkpoint

from data.errors import InputError
from data.media import SAMPLE_RATE_HZ
from heads.models.parts.layers import pool_steps
from pipeline.encoding import encoders
from pipeline.encoding.checkpoints import identity
from pipeline.settings import EncoderSettings

TEXTS = ["word1 word2 word3", "word9", "word4 word5 word6 word7 word8 word9 word10"]


def waveform(seed: int, seconds: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * SAMPLE_RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_text_checkpoint(tmp_path_factory.mktemp("layers") / "bert", "bert")


@pytest.fixture(scope="module")
def data2vec(tmp_path_factory):
    return write_audio_checkpoint(tmp_path_factory.mktemp("layers") / "data2vec", "data2vec-audio")


def encode(modality, source, inputs, **settings):
    encoder = encoders.make(modality, source, EncoderSettings("x", **settings))
    return encoder, encoder.encode([encoder.prepare(value) for value in inputs])


@pytest.mark.parametrize("modality", ["text", "audio"])
def test_a_list_holds_its_layers_side_by_side_and_a_mean_their_mean(request, modality):
    source = request.getfixturevalue({"text": "bert", "audio": "data2vec"}[modality])
    inputs = TEXTS if modality == "text" else [waveform(1, 0.4), waveform(2, 0.03), waveform(3, 0.9)]
    each = [encode(modality, source, inputs, layers=str(number))[1] for number in range(3)]
    encoder, side_by_side = encode(modality, source, inputs, layers="all")
    assert encoder.dim == 3 * each[0][0].shape[1]
    for number, found in enumerate(side_by_side):
        np.testing.assert_array_equal(found, np.concatenate([one[number] for one in each], axis=1))
    for found, second, third in zip(encode(modality, source, inputs, layers="-1,1")[1], each[1], each[2], strict=True):
        np.testing.assert_array_equal(found, np.concatenate([second, third], axis=1))
    for number, found in enumerate(encode(modality, source, inputs, layers="mean(all)")[1]):
        np.testing.assert_allclose(found, np.mean([one[number] for one in each], axis=0), atol=1e-6, rtol=0)


def test_the_model_runs_once_whatever_the_list(bert):
    encoder = encoders.make("text", bert, EncoderSettings("x", layers="all"))
    runs = []
    encoder.model.register_forward_hook(lambda *_: runs.append(1))
    encoder.encode([encoder.prepare(text) for text in TEXTS])
    assert len(runs) == 1


def test_the_last_layer_alone_is_the_last_hidden_state_with_the_norm_behind_it(tmp_path):
    source = write_audio_checkpoint(tmp_path, "wav2vec2-layer-norm")
    (last,), (block,) = (encode("audio", source, [waveform(1, 0.5)], layers=layers)[1] for layers in ("-1", "2"))
    assert np.abs(last - block).max() > 0.01
    encoder = encoders.make("audio", source, EncoderSettings("x"))
    with torch.no_grad():
        norm = encoder.model.encoder.layer_norm(torch.from_numpy(block))
    np.testing.assert_allclose(last, norm.numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rate", "size"), [(12.5, 4), (25, 2), (16.667, 3), (10, 5)])
def test_frames_are_averaged_exactly_as_heads_average_them(data2vec, rate, size):
    """Clips of 24, 1, 4 and 49 frames: the last window is full, or of one to four frames."""
    inputs = [waveform(seed, seconds) for seed, seconds in enumerate((0.5, 0.03, 0.1, 1.0))]
    _, frames = encode("audio", data2vec, inputs)
    encoder, averaged = encode("audio", data2vec, inputs, frame_rate_hz=rate)
    assert sorted({len(one) % size for one in frames}) != [0]
    for full, found, samples in zip(frames, averaged, inputs, strict=True):
        means, mask = pool_steps(torch.from_numpy(full)[None], torch.ones(1, len(full), dtype=torch.bool), size)
        np.testing.assert_array_equal(found, means[0].numpy())
        assert len(found) == int(mask.sum()) == encoder.rows(len(samples)) == encoder.prepare(samples).length
    stated = identity("audio", EncoderSettings("x", frame_rate_hz=rate), data2vec, {}, "float32", "float32")
    assert (stated["frames_averaged"], stated["frame_rate_hz"]) == (size, round(50 / size, 3))


def test_layers_and_frames_go_together(data2vec):
    inputs = [waveform(1, 0.5)]
    (both,) = encode("audio", data2vec, inputs, frame_rate_hz=12.5, layers="1,2")[1]
    apart = [encode("audio", data2vec, inputs, frame_rate_hz=12.5, layers=layer)[1][0] for layer in ("1", "2")]
    np.testing.assert_array_equal(both, np.concatenate(apart, axis=1))


def test_the_encoders_own_rate_changes_nothing_and_other_rates_are_refused(data2vec):
    usual = identity("audio", EncoderSettings("x"), data2vec, {}, "float32", "float32")
    assert identity("audio", EncoderSettings("x", frame_rate_hz=50), data2vec, {}, "float32", "float32") == usual
    message = (
        r"frame_rate_hz is {}, but x makes 50 frames a second, of which a whole number is averaged into one: choose {}, for example"
    )
    for rate, choices in ((13, "12.5 or 10"), (40, "50 or 25"), (100, "50")):
        with pytest.raises(InputError, match=message.format(rate, choices)):
            identity("audio", EncoderSettings("x", frame_rate_hz=rate), data2vec, {}, "float32", "float32")
    with pytest.raises(InputError, match="frame_rate_hz is -1, expected frames a second, or 0"):
        EncoderSettings("x", frame_rate_hz=-1)


def test_the_identity_of_one_layer_is_as_it_was(bert):
    usual = identity("text", EncoderSettings("x"), bert, {"a": "b"}, "float16", "float32")
    assert list(usual.items()) == [
        ("modality", "text"),
        ("files", {"a": "b"}),
        ("layer", -1),
        ("dtype", "float16"),
        ("precision", "float32"),
        ("padding", "none: as the utterance alone"),
        ("case", "sentence"),
        ("max_tokens", 0),
    ]
    names = {
        "1": {"layer": 1},
        "-2": {"layer": 1},
        "0..2": {"layers": [0, 1, 2]},
        "all": {"layers": [0, 1, 2]},
        "mean(-2,2)": {"mean_of_layers": [1, 2]},
    }
    for text, facts in names.items():
        found = identity("text", EncoderSettings("x", layers=text), bert, {"a": "b"}, "float16", "float32")
        assert {name: value for name, value in found.items() if "layer" in name} == facts


def test_a_checkpoint_that_hides_its_number_of_blocks_takes_numbers_from_0_on(bert):
    path = bert.folder / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"num_hidden_layers"', '"depth"'))
    try:
        with pytest.raises(InputError, match=r"config.json: says no number of blocks .*; write layers with numbers from 0 on"):
            identity("text", EncoderSettings("x", layers="all"), bert, {}, "float16", "float32")
        assert identity("text", EncoderSettings("x", layers="0..2"), bert, {}, "float16", "float32")["layers"] == [0, 1, 2]
    finally:
        path.write_text(text)
