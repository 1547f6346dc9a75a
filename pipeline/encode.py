"""A build for a folder of clips with the encoders of a run: which encoders, and the luigi.cfg that says so.

`python -m pipeline encode` writes the file and runs BuildFeatures with it. The features have the same identity as those that the run
was trained on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from data.atomic import atomic_path
from data.errors import InputError
from data.fingerprint import FileDigests
from pipeline.config_file import written
from pipeline.same_encoders import Places, find, read_encoders
from pipeline.settings import EncoderSettings


def configure(config: Path, clips: Path, cache: Path, places: Places, device: str, only: Sequence[str] = ()) -> Path:
    """Writes luigi.cfg into the folder of the clips and returns its path.

    Args:
        config: config.json of a run.
        clips: Absolute path of a folder in the layout of `data.corpora.folder`; its name becomes that of the corpus.
        cache: Absolute path of the cache that gets the features.
        places: Where to look for the encoders.
        device: As in luigi.cfg.
        only: Feature sets of the run; empty: all.

    Raises:
        InputError: An encoder is not at hand, or the features of the run were made by several builds of unlike precision.
    """
    wanted = read_encoders(config, only)
    _take_memos(cache, places.caches)
    digests = FileDigests(cache / "fingerprints.json")
    encoders = find(wanted, places, digests)
    build = {"cache": str(cache), "on_bad_media": "exclude", "device": device}
    for fact in ("dtype", "precision"):
        values = {name: made["identity"][fact] for name, made in wanted.items()}
        if len(set(values.values())) > 1:
            said = ", ".join(f"{name} {value}" for name, value in values.items())
            raise InputError(f"{config}: the features of the run differ in {fact} ({said}), which one build cannot make.")
        build[fact] = next(iter(values.values()))
    corpora = {"folders": _json({clips.name: str(clips)}), "modalities": _json(list(encoders))}
    sections = {"corpora": corpora, "build": build, "pseudo_labels": {"targets": "[]", "donors": "[]"}}
    sections |= {name: _section(name, settings) for name, settings in encoders.items()}
    path = clips / "luigi.cfg"
    with atomic_path(path) as temporary:
        temporary.write_text(written(sections), encoding="utf-8")
    return path


def _take_memos(cache: Path, others: Sequence[Path]) -> None:
    """Copies what planning remembers in other caches: digests of weights, and encoders that were tried and can be used."""
    for name in ("fingerprints.json", "encoders.json"):
        known = [other / name for other in others if (other / name).is_file()]
        if known and not (cache / name).exists():
            with atomic_path(cache / name) as temporary:
                shutil.copyfile(known[0], temporary)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _section(name: str, settings: EncoderSettings) -> dict[str, str]:
    own = {"text": ("case", "max_tokens", "context"), "audio": ("context_s", "frame_rate_hz")}[name.partition(".")[0]]
    values = {key: str(getattr(settings, key)) for key in ("model", "revision", "layers", *own)}
    return values | {"adapted": str(settings.adapted).lower()}
