"""The report kit: one page layout, one style sheet, one kind of table and one kind of chart for every report of the program.

* `tables`: a table of typed cells, and its Markdown, LaTeX and terminal text.
* `page`: HTML pages and their parts. The templates and the style sheet are in `templates/`.
* `charts`: pictures drawn by matplotlib, as SVG in the colours of a page or as files on white.
* `numbers`: numbers as a reader writes them.

Nothing here knows a corpus, a head or a metric: `pipeline.report`, `heads.sweeps.results` and `heads.tables` decide what a report
says. Nothing is imported here, so that printing a table does not load Jinja or matplotlib.
"""
