"""The result of an adaptation on disk: a folder that transformers loads anywhere, with the record of its making beside the weights.

    config.json, model.safetensors     the tuned encoder, as `save_pretrained` writes it
    tokenizer or preprocessor files    copied from the base
    heads.safetensors                  the linear layers of the tasks, which extraction does not need
    adapt.json                         recipe, clips, history, SHA-256 of all files, and a seal: the SHA-256 of the rest of itself

The folder appears as a whole. Nothing here imports torch when it is imported: planning looks at finished checkpoints.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from data.atomic import atomic_folder
from data.errors import InputError
from data.files import unreadable
from data.fingerprint import file_digest
from pipeline.encoding.checkpoints import Source, files, weights_file

RECORD = "adapt.json"
HEADS = "heads.safetensors"
FORMAT = "mmolre-adapted 1"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an error of safetensors while it writes, such as a full disk, into an OSError with the path."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(f"{path}: cannot be written ({error}). Is the disk full? The next run goes on from the last epoch.") from error


def write(folder: Path, base: Source, model: Any, record: Mapping[str, Any]) -> None:
    """Writes the folder; a damaged one of this name is replaced.

    Args:
        folder: Its new place.
        base: The encoder that was adapted.
        model: A `TaskModel` with the weights to keep. It can't learn any more afterwards.
        record: JSON-able content of adapt.json.
    """
    from safetensors.torch import save_file

    modality = model.recipe.modality
    weights = model.merged()
    # Weights that the base lacks were erased (NaN) when it was loaded. The result lacks them, too.
    weights = {name: one.detach().cpu().contiguous() for name, one in weights.items() if name not in model.encoder.erased}
    with atomic_folder(folder) as temporary, writing(folder):
        model.encoder.model.save_pretrained(temporary, state_dict=weights)
        own = {"config.json", weights_file(base.folder)}
        for path in files(modality, base):
            if path.name not in own and path.suffix not in (".safetensors", ".bin"):
                shutil.copyfile(path, temporary / path.name)
        save_file({name: one.detach().cpu().contiguous() for name, one in model.heads.state_dict().items()}, temporary / HEADS)
        hashes = {path.name: file_digest(path) for path in sorted(temporary.iterdir())}
        content = {"format": FORMAT, **record, "files": hashes}
        text = json.dumps(content | {"seal": _seal(content)}, indent=1, sort_keys=True)
        (temporary / RECORD).write_text(text, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)


def is_whole(folder: Path) -> bool:
    """Tells whether a folder has an intact adapt.json and all files with the SHA-256 that it states.

    Raises:
        UnreadableError: A file exists and cannot be read now.
    """
    content = _read(folder / RECORD)
    if content is None:
        return False
    paths = [folder / name for name in content["files"]]
    return all(path.is_file() for path in paths) and all(_digest(path) == content["files"][path.name] for path in paths)


def read_record(folder: Path) -> dict[str, Any]:
    """Returns the content of adapt.json.

    Raises:
        InputError: There is none, or it is damaged.
    """
    content = _read(folder / RECORD)
    if content is None:
        raise InputError(f"{folder / RECORD}: missing or damaged. Delete {folder.name} and run BuildFeatures again.")
    return content


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        if (known := unreadable(path, error)) is not None:
            raise known from error
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    return content if content.pop("seal", None) == _seal(content) else None


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    state = path.stat()
    return _digest_of(path, state.st_mtime_ns, state.st_ctime_ns, state.st_size)


@lru_cache(maxsize=256)
def _digest_of(path: Path, _mtime_ns: int, _ctime_ns: int, _size: int) -> str:
    return file_digest(path)
