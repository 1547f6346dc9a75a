"""Feature and label files of other tools, in and out: one module per format.

Our own formats are `data.manifest` and `data.feature_store`; the folders in which public corpora come are `data.corpora`.
"""
