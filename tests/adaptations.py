"""Small adaptations for tests: a tiny BERT that learns the sentiment of the project's clips in a second."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from projects import Project

from data.atomic import remove_strays
from pipeline import steps
from pipeline.plan import AdaptationPlan, Plan
from pipeline.settings import AdaptSettings

CORPUS = {"corpora": ("clips",), "epochs": 3, "lr": 1e-3, "batch_size": 4}


def plan_adaptation(project: Project, modality: str = "text", **changed: object) -> tuple[Plan, AdaptationPlan]:
    """Plans a build whose text (or audio) encoder learns from the clips; some settings of [adapt] changed."""
    plan = project.plan(adapt=AdaptSettings(**{**CORPUS, "modalities": (modality,), **changed}))
    return plan, plan.adaptations[modality]


def run(
    plan: Plan,
    adaptation: AdaptationPlan,
    advance: Callable[[int], None] = lambda count: None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Runs an adaptation as its task does and returns the folder of the checkpoint."""
    remove_strays(plan.settings.cache)
    if adaptation.modality == "audio":
        for corpus in adaptation.corpora:
            if not corpus.manifest.exists():
                steps.make_manifest(corpus, "stop", 1, lambda count: None)
    steps.make_adapted_encoder(plan, adaptation, "cpu", 1, advance, say)
    return adaptation.folder


def adapted(project: Project, modality: str = "text", **changed: object) -> Path:
    """Plans and runs an adaptation anew."""
    plan, adaptation = plan_adaptation(project, modality, **changed)
    shutil.rmtree(adaptation.folder, ignore_errors=True)
    return run(plan, adaptation)


def without_dropout(encoder: Path, folder: Path) -> Path:
    """Copies a text encoder; the copy has no dropout, so that it learns the same however a step is divided."""
    shutil.copytree(encoder, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    none = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    (folder / "config.json").write_text(json.dumps(config | none), encoding="utf-8")
    return folder


def record(folder: Path) -> dict[str, Any]:
    """The content of adapt.json."""
    return json.loads((folder / "adapt.json").read_text(encoding="utf-8"))


def weights(folder: Path) -> bytes:
    """The bytes of the encoder's weights and of the linear layers."""
    return (folder / "model.safetensors").read_bytes() + (folder / "heads.safetensors").read_bytes()
