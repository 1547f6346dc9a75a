"""A baseline of your own on cached features, in plain PyTorch: the mean of the text rows, one hidden layer, the sentiment.

python examples/own_baseline.py CACHE CORPUS PREDICTIONS.csv
python -m heads score PREDICTIONS.csv --cache CACHE --corpus CORPUS
"""

import csv
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader

from data import load_corpus


def mean_of_rows(batch):
    mask = batch.masks["text"][..., None]
    return (batch.features["text"] * mask).sum(1) / mask.sum(1)  # (B, D); padding is zero, and not counted


def main(cache, name, out):
    torch.manual_seed(1)
    corpus = load_corpus(cache, name, modalities=["text"])
    train, valid = corpus.split("train"), corpus.split("valid")
    model = nn.Sequential(nn.Linear(corpus.dims["text"], 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(10):
        for batch in DataLoader(train, batch_size=32, shuffle=True, collate_fn=train.collate):
            labelled = ~batch.sentiment.isnan()
            loss = nn.functional.l1_loss(model(mean_of_rows(batch))[labelled, 0], batch.sentiment[labelled])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    batch = valid.collate(list(valid))
    with torch.inference_mode():
        predicted = model(mean_of_rows(batch))[:, 0]
    print(f"valid MAE {(predicted - batch.sentiment).abs().nanmean():.4f}")
    with open(out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "sentiment"), *zip((one.id for one in valid), predicted.tolist(), strict=True)])


if __name__ == "__main__":
    main(*sys.argv[1:])
