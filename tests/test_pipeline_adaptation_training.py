"""An adaptation learns what a plain loop learns, reads no test labels, and goes on after a kill with the same bytes."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable

import numpy as np
import pytest
import torch
import transformers
from adaptations import adapted, plan_adaptation, record, run, weights, without_dropout
from projects import Project, read_rows, write_project, write_rows
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from data.errors import InputError
from data.labels import EMOTIONS
from pipeline.adaptation import checkpoint, state, training


@pytest.fixture(scope="module")
def learned(tmp_path_factory, tiny_bert):
    """What the usual settings make in a project like `project`: the folder of the checkpoint, which tests must not change."""
    return adapted(write_project(tmp_path_factory.mktemp("learned"), tiny_bert))


@pytest.fixture
def still(project, tmp_path):
    """A project whose encoder has no dropout."""
    return Project(project.root, without_dropout(project.encoder, tmp_path / "still"))


@pytest.fixture(scope="module")
def undivided(tmp_path_factory, tiny_bert):
    """The history of the usual settings in a project like `still`."""
    folder = tmp_path_factory.mktemp("undivided")
    project = write_project(folder, tiny_bert)
    return record(adapted(Project(project.root, without_dropout(project.encoder, folder / "still"))))["history"]


def rows_of(project: Project, split: str) -> list[dict]:
    return [row for row in read_rows(project.clips / "label.csv") if row["mode"] == split]


def relabel(project: Project, split: str) -> None:
    """Moves the labels of one split round by one clip."""
    rows = read_rows(project.clips / "label.csv")
    chosen = [row for row in rows if row["mode"] == split]
    for row, label in zip(chosen, np.roll([row["label"] for row in chosen], 1), strict=True):
        row["label"] = label
    write_rows(project.clips / "label.csv", rows)


def test_it_learns_what_a_plain_loop_of_torch_and_transformers_learns(still):
    folder = adapted(still, epochs=2, batch_size=16, warmup=0.5, clip_norm=0.5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(still.encoder)
    model = transformers.AutoModel.from_pretrained(still.encoder)
    with torch.random.fork_rng():
        training._seed(1, 0)
        linear = nn.Linear(32, 1)
    parameters = [*model.parameters(), *linear.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.01)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 1, 2)

    def mae(split: str) -> torch.Tensor:
        losses = []
        for row in rows_of(still, split):
            tokens = tokenizer(row["text"][:1] + row["text"][1:].lower(), return_tensors="pt")
            losses.append((linear(model(**tokens).last_hidden_state[0].mean(0)) - float(row["label"])).abs())
        return torch.cat(losses).mean()

    expected = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = mae("train")
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        schedule.step()
        expected.append((loss.item(), mae("valid").item()))
    history = record(folder)["history"]
    np.testing.assert_allclose([(row["train_loss"], row["valid_mae"]) for row in history], expected, rtol=1e-5)
    assert record(folder)["selected"] == 1 + int(np.argmin([valid for _, valid in expected])) == 2
    found = load_file(folder / "heads.safetensors")
    torch.testing.assert_close(found["msa.weight"], linear.weight.detach(), rtol=1e-4, atol=1e-6)
    made = transformers.AutoModel.from_pretrained(folder).state_dict()
    compared = 0
    for name, one in model.named_parameters():
        if one.grad is not None and one.grad.norm() > 1e-6:  # below it is 0 but for rounding, which Adam makes large
            torch.testing.assert_close(made[name], one.detach(), rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared > 15


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_gives_others(project, learned):
    assert weights(adapted(project)) == weights(learned)
    assert weights(adapted(project, seed=2)) != weights(learned)


def test_test_labels_are_not_read_and_labels_of_train_and_valid_are(project, learned):
    _, before = plan_adaptation(project)
    relabel(project, "test")
    _, after = plan_adaptation(project)
    assert after.key == before.key
    assert weights(adapted(project)) == weights(learned)
    for split in ("train", "valid"):
        relabel(project, split)
        _, changed = plan_adaptation(project)
        assert changed.key != before.key
        before = changed


@pytest.mark.parametrize("changed", [{"accumulation": 4, "batch_size": 1}, {"batch_tokens": 1}, {"gradient_checkpointing": True}])
def test_how_a_step_is_divided_into_passes_does_not_change_what_is_learned(still, undivided, changed):
    divided = record(adapted(still, **changed))["history"]
    assert len(undivided) == 3
    for one, other in zip(undivided, divided, strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def killed(work: Callable[[], object]) -> None:
    """Runs work in a fork that ends itself with SIGKILL."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Countdown:
    """Kills the process when so many clips have been read."""

    def __init__(self, clips: int) -> None:
        self.left = clips

    def __call__(self, count: int) -> None:
        self.left -= count
        if self.left <= 0:
            kill()


@pytest.mark.parametrize("settings", [{}, {"method": "lora"}], ids=["full", "lora"])
def test_a_killed_adaptation_goes_on_from_its_last_epoch_and_ends_with_the_same_bytes(project, monkeypatch, settings):
    folder = adapted(project, **settings)
    expected, history, size = weights(folder), record(folder)["history"], len(rows_of(project, "train"))
    shutil.rmtree(folder)
    plan, adaptation = plan_adaptation(project, **settings)
    taught: list[int] = []
    learn = training.Course.learn
    monkeypatch.setattr(training.Course, "learn", lambda self, epoch, advance: [taught.append(epoch), learn(self, epoch, advance)][1])
    killed(lambda: run(plan, adaptation, advance=Countdown(3)))  # in the first epoch
    killed(lambda: run(plan, adaptation, say=kill))  # between the first and the second
    killed(lambda: run(plan, adaptation, advance=Countdown(size + size // 2)))  # in the second
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "file_digest", kill)  # while the checkpoint is written
        killed(lambda: run(plan, adaptation))
    assert not folder.exists()
    clips: list[int] = []
    assert weights(run(plan, adaptation, advance=clips.append)) == expected
    assert taught == []  # the fork had finished the last epoch
    assert sum(clips) == 3 * size
    assert record(folder)["history"] == history
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_state_after_an_epoch_is_used_once_it_is_whole(project, learned, capsys):
    plan, adaptation = plan_adaptation(project)
    killed(lambda: run(plan, adaptation, say=kill))
    path = adaptation.folder.with_name(f"{adaptation.folder.name}.state.safetensors")
    content = bytearray(path.read_bytes())
    content[-100] ^= 0x40
    path.write_bytes(content)
    assert weights(run(plan, adaptation)) == weights(learned)
    assert capsys.readouterr().err == f"{path}: damaged, or of another adaptation: it begins with the first epoch.\n"


def test_patience_ends_the_training_and_the_best_epoch_is_kept(project):
    longest = record(adapted(project, epochs=8, patience=8, lr=0.05))
    losses = [row["valid_loss"] for row in longest["history"]]
    best = int(np.argmin(losses)) + 1
    assert longest["selected"] == best
    assert best < 7
    stopped = record(adapted(project, epochs=8, patience=1, lr=0.05))
    worse = next(number for number in range(1, 8) if losses[number] >= min(losses[:number]))
    assert [row["valid_loss"] for row in stopped["history"]] == losses[: worse + 1]


def test_a_loss_that_is_not_finite_is_one_line_and_nothing_is_left(project, monkeypatch):
    plan, adaptation = plan_adaptation(project)
    losses = training.row_losses
    calls: list[int] = []

    def broken(*arguments: object, **options: object) -> dict[str, torch.Tensor]:
        calls.extend([1] * torch.is_grad_enabled())
        return {task: loss * (float("nan") if len(calls) > 2 else 1) for task, loss in losses(*arguments, **options).items()}

    monkeypatch.setattr(training, "row_losses", broken)
    with pytest.raises(InputError) as caught:
        run(plan, adaptation)
    assert str(caught.value) == (
        "AdaptedEncoder clips text: the loss of epoch 2, step 3 of 6 is not finite; nothing was written. Set a smaller lr, or"
        " precision = float32, in luigi.cfg, section [adapt]."
    )
    assert list(adaptation.folder.parent.iterdir()) == []


def test_too_little_memory_and_a_full_disk_are_one_line(project, monkeypatch):
    plan, adaptation = plan_adaptation(project)

    def fails(error: Exception) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    with monkeypatch.context() as patched:
        patched.setattr(training, "row_losses", fails(torch.OutOfMemoryError()))
        with pytest.raises(InputError, match=r"AdaptedEncoder clips text: the cpu device has too little memory. Set a smaller"):
            run(plan, adaptation)
    monkeypatch.setattr(state, "save_file", fails(SafetensorError("no space left")))
    with pytest.raises(OSError, match=r"state.safetensors: cannot be written \(no space left\). Is the disk full\?"):
        run(plan, adaptation)
    assert list(adaptation.folder.parent.iterdir()) == []


@pytest.mark.parametrize("method", ["full", "lora", "last_n"])
def test_the_method_decides_which_weights_change(project, tmp_path, method):
    encoder = tmp_path / "deep"
    shutil.copytree(project.encoder, encoder)
    config = transformers.BertConfig.from_pretrained(encoder, num_hidden_layers=3)
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(encoder)
    folder = adapted(Project(project.root, encoder), method=method, last_blocks=2)
    before, after = load_file(encoder / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    learns = {
        "full": lambda name: not name.startswith("pooler"),
        "lora": lambda name: name.startswith("encoder") and name.endswith("weight") and "LayerNorm" not in name,
        "last_n": lambda name: name.startswith(("encoder.layer.1.", "encoder.layer.2.")),
    }[method]
    assert changed == {name for name in before if learns(name)}


def test_bfloat16_states_its_effect(project, learned):
    made = record(adapted(project, precision="bfloat16"))
    effect = made["precision_effect"]
    assert 0 < effect["mean_abs"] <= effect["max_abs"] < 0.1
    assert effect["clips"] == len(rows_of(project, "valid"))
    assert record(learned)["precision_effect"] is None


def test_both_tasks_learn_from_the_clips_that_are_labelled(project):
    rows = read_rows(project.clips / "label.csv")
    for number, row in enumerate(rows):
        row.update({emotion: "" if number % 4 == 0 else int((number + place) % 5 == 0) for place, emotion in enumerate(EMOTIONS)})
    write_rows(project.clips / "label.csv", rows)
    made = record(adapted(project, tasks="both"))
    labelled = [row for row in rows_of(project, "train") if row["fear"] != ""]
    assert made["train"]["labelled"] == {"msa": len(rows_of(project, "train")), "mer": len(labelled)}
    for row in made["history"]:
        assert row["valid_loss"] == pytest.approx(row["valid_mae"] + row["valid_bce"])
    assert load_file(plan_adaptation(project, tasks="both")[1].folder / "heads.safetensors")["mer.weight"].shape == (6, 32)


def test_emotions_may_come_from_pseudo_labels(built):
    plan, adaptation = plan_adaptation(built, tasks="mer")
    made = record(run(plan, adaptation))
    assert made["parts"]["pseudo labels"] == {"clips": [plan.ledgers["clips"].key, 0.0]}
    assert made["train"]["labelled"]["mer"] > 0
    assert made["train"]["labelled"]["msa"] == 0


def test_a_task_without_labels_is_refused(project):
    plan, adaptation = plan_adaptation(project, tasks="mer", emotions="annotated")
    with pytest.raises(InputError, match=r"clips text: no clip of the train split has emotions. Choose other tasks than mer, or other"):
        run(plan, adaptation)


def test_a_speech_encoder_learns_but_its_front_end_does_not(project):
    said: list[str] = []
    plan, adaptation = plan_adaptation(project, "audio", lr=1e-3, epochs=2, max_seconds=0.4)
    folder = run(plan, adaptation, say=said.append)
    base = adaptation.base.folder
    before, after = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith("feature_extractor.")} | {"masked_spec_embed"}
    assert (folder / "preprocessor_config.json").read_bytes() == (base / "preprocessor_config.json").read_bytes()
    assert "apply_spec_augment" not in (folder / "config.json").read_text()
    assert weights(adapted(project, "audio", lr=1e-3, epochs=2, max_seconds=0.4)) == weights(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert said[1].startswith("AdaptedEncoder clips audio: epoch 2 of at most 2, training loss ")


def test_an_unused_state_belongs_to_its_key(project, tmp_path):
    plan, adaptation = plan_adaptation(project)
    killed(lambda: run(plan, adaptation, say=kill))
    path = adaptation.folder.with_name(f"{adaptation.folder.name}.state.safetensors")
    assert state._read(path, adaptation.key) is not None
    assert state._read(path, "another") is None
