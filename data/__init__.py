"""What an utterance is, on disk and in memory.

Here live the schema and labels of utterances, the corpus readers, the decoding of their media, the manifest and the HDF5 feature
store. What computes features lives in `pipeline`, what learns from them in `heads`; nothing here imports either.
"""
