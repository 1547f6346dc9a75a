"""Trainable heads on cached features, their metrics, sweeps and tables; knows neither Luigi nor the encoders.

A room imports only itself and those before it: `models`, `evaluation`, `runs`, `training`, `sweeps`, `tables`, `commands`.
"""
