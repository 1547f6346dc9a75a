"""Fixtures that several test files share: a tiny text encoder, a small finished build, and commands that are refused."""

import os
import re
from collections.abc import Callable
from pathlib import Path

# Tensors in tests are tiny. Threads do not make them faster, and on a busy machine they wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
from command_line import call
from projects import WORDS, Project, write_project

hypothesis.settings.register_profile("untimed", deadline=None)  # no test asserts a time: machines are shared
hypothesis.settings.load_profile("untimed")


LONG_FILES = (
    "test_pipeline_tasks.py", "test_heads_sweeps_cluster.py", "test_heads_sweeps_executors.py", "test_pipeline_adaptation_training.py",
    "test_pipeline_interruption.py", "test_pipeline_one_maker.py", "test_pipeline_tasks_adaptation.py", "test_fuzz.py",
)  # fmt: skip
"""Files of few tests that take long. They come first, so that no process is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the tests of `LONG_FILES` to the front."""
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Lets `pytest -m gpu` look at files with such tests only: GPU machines lack Luigi and PyAV, which many others import."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    if config.getoption("markexpr") == "gpu" and is_test and "mark.gpu" not in collection_path.read_text(encoding="utf-8"):
        return True
    return None


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command of `python -m heads` that is refused, and returns the one line of its message."""

    def run(*arguments: object) -> str:
        status, _, err = call(capsys, *arguments)
        message = re.fullmatch("error: (.*)\n", err)
        assert status == 2
        assert message
        return message[1]

    return run


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BERT (hidden size 32, one layer) and a WordPiece tokenizer that distinguishes upper and lower case."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("encoders") / "tiny-bert"
    letters = sorted({letter for word in WORDS for letter in word + word.lower()})
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", ".", *letters, *(f"##{letter}" for letter in letters), *WORDS[1:]]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(pieces), **size)).save_pretrained(folder)
    _import_what_encoders_need(folder)
    return folder


def _import_what_encoders_need(tiny_bert: Path) -> None:
    """Loads one encoder of each kind: processes that planning forks inherit the imports, a second each time."""
    from pipeline.encoding import encoders
    from pipeline.encoding.checkpoints import locate
    from pipeline.settings import EncoderSettings

    for modality, model in (("text", str(tiny_bert)), ("audio", "tiny-data2vec")):
        settings = EncoderSettings(model)
        encoders.make(modality, locate(modality, settings), settings)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Project:
    """A project that has been built. Tests must not change it; `built` is a copy for that."""
    project = write_project(tmp_path_factory.mktemp("finished"), tiny_bert)
    result = project.build("--log-level", "WARNING")
    assert result.returncode == 0, result.stderr
    return project


@pytest.fixture
def built(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, which tests may change and build again."""
    return finished.copy(tmp_path / "project")


@pytest.fixture
def project(tmp_path: Path, tiny_bert: Path) -> Project:
    """A project that has never been built."""
    return write_project(tmp_path / "project", tiny_bert)
