"""The bundled audio encoder is the one that its module makes."""

import json

from safetensors.numpy import load_file

from pipeline.encoding.tiny_encoder import write_tiny_encoder
from pipeline.settings import SAMPLE

BUNDLED = SAMPLE / "tiny-data2vec"


def test_the_encoder_in_the_repository_is_made_by_this_module(tmp_path):
    write_tiny_encoder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in BUNDLED.iterdir())
    made, bundled = (load_file(folder / "model.safetensors") for folder in (tmp_path, BUNDLED))
    assert made.keys() == bundled.keys()
    assert all((made[name] == bundled[name]).all() for name in made)
    assert sum(weight.size for weight in made.values()) == 94_592
    made, bundled = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, BUNDLED))
    assert {name for name in made if made[name] != bundled.get(name)} <= {"transformers_version"}


def test_the_front_end_is_that_of_the_real_model():
    config = json.loads((BUNDLED / "config.json").read_text())
    assert config["conv_kernel"] == [10, 3, 3, 3, 3, 2, 2]
    assert config["conv_stride"] == [5, 2, 2, 2, 2, 2, 2]
    frames = 96_000
    for kernel, stride in zip(config["conv_kernel"], config["conv_stride"], strict=True):
        frames = (frames - kernel) // stride + 1
    assert frames == 299
