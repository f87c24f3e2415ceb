"""The kinds of modules that every drop-in must take unchanged, with an input for each."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class Transformer(nn.Module):
    """A small language model whose head is tied to its embedding."""

    def __init__(self, width=64):
        super().__init__()
        self.embedding = nn.Embedding(80, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        for parameter in self.encoder.parameters():  # its layers are copies of one
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        self.head = nn.Linear(width, 80, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(30, 60, 2, batch_first=True)
        self.fc = nn.Linear(60, 55)

    def forward(self, x):
        return self.fc(self.lstm(x)[0])


class Mixed(nn.Module):
    """Tied, frozen, grouped, weight-normed and quantised weights in one module."""

    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv1d(60, 60, 3, padding=1, groups=2)
        self.first = nn.Linear(60, 60)
        self.again = nn.Linear(60, 60)
        self.again.weight = self.first.weight
        self.frozen = nn.Linear(60, 70).requires_grad_(False)
        self.normed = weight_norm(nn.Linear(70, 60))
        self.last = nn.Linear(60, 52)
        packed = nn.Linear(52, 52, bias=False)
        self.quantised = nn.Parameter((packed.weight.detach() * 127).to(torch.int8), requires_grad=False)

    def forward(self, x):
        x = self.grouped(x.transpose(1, 2)).transpose(1, 2)
        x = self.last(self.normed(self.frozen(self.again(self.first(x).relu()).relu())).relu())
        return x @ (self.quantised.float() / 127)


def transformer():
    return Transformer(), torch.randint(80, (3, 9))


def cnn():
    layers = [
        nn.Conv2d(16, 24, 3),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, 2, groups=4),
        nn.ReLU(),
    ]
    layers += [nn.ConvTranspose2d(32, 20, 3, 2), nn.Conv2d(20, 30, 3, padding=1, padding_mode="circular")]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(30 * 49, 60)), torch.randn(4, 16, 10, 10)


def recurrent():
    return Recurrent(), torch.randn(3, 7, 30)


def mixed():
    return Mixed(), torch.randn(3, 7, 60)


KINDS = {"transformer": transformer, "cnn": cnn, "lstm": recurrent, "mixed": mixed}


def seeded(kind, seed=0):
    torch.manual_seed(seed)
    return KINDS[kind]()


def train(model, x, optimizer, steps, *after):
    """Train on the outputs' squares."""
    torch.manual_seed(99)  # of dropout
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        for one in after:
            one()
