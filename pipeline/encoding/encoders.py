"""The encoders that this process has loaded: each turns a batch into features, and every utterance gets those that the model gives for
it alone.

Checkpoints are found in `pipeline.encoding.checkpoints`, batches are composed in `pipeline.encoding.extract`, media are decoded in
`data.media`.
"""

import gc

from pipeline.encoding.audio_encoder import AudioEncoder
from pipeline.encoding.checkpoints import Source, locate
from pipeline.encoding.text_encoder import SentenceEncoder, TextEncoder
from pipeline.settings import EncoderSettings

_CLASSES = {"text": TextEncoder, "audio": AudioEncoder, "sentence": SentenceEncoder}


Encoder = TextEncoder | AudioEncoder | SentenceEncoder

_kept: dict[tuple[str, EncoderSettings, str], dict[str, Encoder]] = {}
"""What `load` keeps: precision → encoder of the one (modality, settings, device) that this process loaded last."""


def load(modality: str, settings: EncoderSettings, device: str, precision: str) -> Encoder:
    """Loads the encoder of a modality onto its device and keeps it for the next call in the same process.

    Encoders of another modality, of other settings or on another device are dropped first; those of another precision are not, because
    bfloat16 is compared with float32.
    """
    from pipeline.encoding import cpu

    if (modality, settings, device) not in _kept:
        drop()
    kept = _kept.setdefault((modality, settings, device), {})
    if precision not in kept:
        if device == "cpu":
            cpu.keep_freed_memory()
        kept[precision] = make(modality, locate(modality, settings), settings, device, precision)
    return kept[precision]


def drop() -> None:
    """Frees the encoders that `load` keeps."""
    if _kept:
        _kept.clear()
        gc.collect()  # a model and its hooks refer to each other


def kept_on() -> str:
    """Returns the device of the encoder that `load` keeps, or "" without one."""
    return next((device for _, _, device in _kept), "")


def make(
    modality: str,
    source: Source,
    settings: EncoderSettings,
    device: str = "cpu",
    precision: str = "float32",
    trainable: bool = False,
) -> Encoder:
    """Loads and tries an encoder. One that is `trainable` can learn and is slower on a CPU.

    Raises:
        InputError: The checkpoint cannot be used for this modality with these settings.
    """
    return _CLASSES[modality](source, settings, device, precision, trainable)
