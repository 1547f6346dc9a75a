"""Results of a sweep: its trials as tables, its charts, its page and its files.

`trials` reads run folders and compares configurations, `report` writes report.html and tables/. Running a sweep is not here but in
the modules of `heads.sweeps`; the look of the page and the forms of a table are in `data.reporting`.
"""
