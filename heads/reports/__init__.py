"""Pages about finished runs: what they predict, where they are wrong, and what sets two predictors apart.

* `results`: what run folders say about one split.
* `clips`: what the cache says about the utterances: text, speaker, donor of pseudo-labels, sound.
* `probing`: what a run says when its head is asked again: gates of each utterance, metrics without a modality.
* `plots`: charts.
* `tables`: tables, that of the clips among them.
* `gathering`: `content`, all that a page of runs is made from, read from these places.
* `sections`: its sections.
* `run_page`: the page of one run, or of several side by side.
* `comparison_page`: the page of two predictors.

Computations are in `heads.evaluation`, the look of pages in `data.reporting`.
"""
