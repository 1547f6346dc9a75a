"""Adapts encoders: each learns the task once on training splits, and its features are then cached like those of any other encoder.

Here: the recipe with its defaults (`recipe`), the clips that teach (`clips`), the model with its losses (`model`), the training loop
(`training`), its state between epochs (`state`), and the finished checkpoint (`checkpoint`). Not here: encoders and their inputs are in
`pipeline.encoding`, and `pipeline.plan` decides which rows of which corpora teach.

Nothing here reads a test split: the clips that come in are those of the training and validation splits.

Importing this room imports no torch: its modules import it when they are used.
"""

from pipeline.adaptation.recipe import Recipe

__all__ = ["Recipe"]
