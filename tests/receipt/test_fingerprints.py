"""What a listener learns of an answer's topic from the sizes of its writes.

A classifier (logistic regression over what the sizes of a stream show) is trained on streams of
two topics and then asked about others: with the engine's own writes it is nearly always right,
with padding it guesses.  Everything is drawn from one seed, so that the figures are the same in
every run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from attestation.receipt.padding import Shaping
from tests.receipt.support import DONE, streaming

SHORT = [" a", ",", " of", " is", ".", " to", " in", " the", " on", " it", " be", " as", " at"]
LONG = [" patient", " treatment", " the", " diagnosis", " of", " symptoms", " chronic", " dose"]
STREAMS, TOKENS = 80, 60
Sizes = list[int]
Reads = Callable[[random.Random], int]


def one_by_one(_dice: random.Random) -> int:
    return 1


def in_bursts(dice: random.Random) -> int:
    return dice.choice((1, 1, 1, 2, 3, 4))


def frame(token: str) -> bytes:
    return (
        b'data: {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk",'
        b'"created":1763668800,"model":"tiny","choices":[{"index":0,"delta":{"content":"%b"},'
        b'"logprobs":null,"finish_reason":null}]}\n\n' % token.encode()
    )


def sizes_of(words: Sequence[str], dice: random.Random, shaping: Shaping, reads: Reads) -> Sizes:
    """The sizes of all writes of one answer, as an exchange makes them."""
    frames = [frame(dice.choice(words)) for _ in range(TOKENS)]
    machine = streaming(inline=False, shaping=shaping)
    sizes = []
    while frames:
        count = reads(dice)
        piece = machine.engine(b"".join(frames[:count]))
        machine.taken(piece)
        sizes.append(len(piece))
        del frames[:count]
    machine.engine(DONE)
    machine.engine_end(clean=True)
    machine.finish()
    return [*sizes, len(machine.owed + machine.terminal)]


def features(sizes: Sizes) -> list[float]:
    mean = sum(sizes) / len(sizes)
    spread = math.sqrt(sum((size - mean) ** 2 for size in sizes) / len(sizes))
    ordered = sorted(sizes)
    quantiles = [float(ordered[len(ordered) * part // 10]) for part in range(10)]
    return [mean, spread, float(sum(sizes)), *quantiles, *map(float, sizes[:12])]


def auc(shaping: Shaping, reads: Reads = one_by_one, other: Sequence[str] = LONG) -> float:
    """The classifier's area under the ROC curve on streams that it was not trained on."""
    dice = random.Random(7)  # noqa: S311 - the same streams in every run
    rows = [
        (features(sizes_of(words, dice, shaping, reads)), label)
        for _ in range(2 * STREAMS)
        for label, words in ((0, SHORT), (1, other))
    ]
    half = len(rows) // 2
    scale = scales([row for row, _ in rows[:half]])
    weights = trained([(scaled(row, scale), label) for row, label in rows[:half]])
    scores = [(dot(weights, scaled(row, scale)), label) for row, label in rows[half:]]
    ones = [score for score, label in scores if label]
    zeros = [score for score, label in scores if not label]
    wins = sum((one > zero) + (one == zero) / 2 for one in ones for zero in zeros)
    return wins / (len(ones) * len(zeros))


def scales(rows: list[list[float]]) -> list[tuple[float, float]]:
    means = [sum(column) / len(column) for column in zip(*rows, strict=True)]
    return [
        (mean, math.sqrt(sum((x - mean) ** 2 for x in column) / len(column)) or 1.0)
        for mean, column in zip(means, zip(*rows, strict=True), strict=True)
    ]


def scaled(row: list[float], scale: list[tuple[float, float]]) -> list[float]:
    return [1.0, *((x - mean) / spread for x, (mean, spread) in zip(row, scale, strict=True))]


def dot(weights: list[float], row: list[float]) -> float:
    return sum(weight * x for weight, x in zip(weights, row, strict=True))


def trained(rows: list[tuple[list[float], int]]) -> list[float]:
    """Logistic regression by gradient descent, with a little regularisation."""
    weights = [0.0] * len(rows[0][0])
    for _ in range(60):
        slope = [0.01 * weight for weight in weights]
        for row, label in rows:
            off = 1 / (1 + math.exp(-max(-30.0, min(30.0, dot(weights, row))))) - label
            for place, x in enumerate(row):
                slope[place] += off * x / len(rows)
        weights = [weight - 0.5 * step for weight, step in zip(weights, slope, strict=True)]
    return weights


@pytest.mark.parametrize("reads", [one_by_one, in_bursts])
def test_sizes_of_the_engines_own_writes_tell_the_topic(reads: Reads) -> None:
    assert auc(Shaping(), reads) >= 0.95


@pytest.mark.parametrize("reads", [one_by_one, in_bursts])
@pytest.mark.parametrize("bucket", [512, 2048])
def test_sizes_of_padded_writes_do_not(reads: Reads, bucket: int) -> None:
    assert auc(Shaping(bucket=bucket), reads) <= 0.6


def test_bucket_that_only_some_events_fit_still_tells() -> None:
    # Tokens of up to three characters fit, longer ones take the double.
    assert auc(Shaping(bucket=len(frame("abc")) + 4)) >= 0.9


def test_classifier_finds_nothing_where_there_is_nothing() -> None:
    assert 0.4 <= auc(Shaping(), other=SHORT) <= 0.6
