"""Heads on cached features: models, training, metrics. Knows neither Luigi nor the encoders."""
