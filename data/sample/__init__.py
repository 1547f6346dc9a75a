"""The bundled sample corpora, and the script `make` that generates them. README.md describes them and their limits.

The tiny audio encoder beside the corpora is made by `pipeline.encoding.tiny_encoder`.
"""

from pathlib import Path

__all__ = ["SAMPLE"]

SAMPLE = Path(__file__).resolve().parent
"""The folder that contains the sample corpora, each in a folder of its name."""
