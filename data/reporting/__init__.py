"""The report kit: one page layout, one style sheet, one kind of table and one kind of chart for every report of the program.

* `tables`: a table of typed cells, and its Markdown, LaTeX and terminal text.
* `page`: HTML pages and their parts. The templates, the style sheet and the script are in `templates/`.
* `charts`: pictures drawn by matplotlib, as SVG in the colours of a page or as files on white.
* `audio`: sounds of clips for the players of a page, linked or embedded.
* `numbers`: numbers as a reader writes them.
* `characters`: what stands for characters that a page cannot hold.

Nothing here knows a corpus, a head or a metric: `pipeline.report`, `heads.sweeps.results` and `heads.tables` decide what a report
says. Nothing is imported here, so that printing a table does not load Jinja or matplotlib.

A report with a table of clips, sorted, searched and filtered by the reader:

    sounds = players({row.id: Clip(row.path, row.start_s, row.end_s, row.duration_s) for row in rows}, "link", folder_of_the_page)
    columns = [Column("clip", "words"), Column("text", "long"), Column("error", filter="range"), Column("emotions", filter="choice")]
    cells = [[Cell(row.id, audio=sounds.addresses.get(row.id, "")), row.text, Cell("0.51", row.error), Cell("", chips=...)] ...]
    page.table(Table.of(columns, cells, "Clips", explored=True)), page.paragraph(sounds.note, "note")
"""
