"""Reports on a build: the HTML page about the cache, and the summary on the console.

Here: `gather` reads what a build has made, `page` renders it. Not here: the outputs are made in `pipeline.steps`, and the progress bar
is in `pipeline.console`.
"""

from pipeline.report.gather import make_report, summary

__all__ = ["make_report", "summary"]
