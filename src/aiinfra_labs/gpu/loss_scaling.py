"""Gradients that fp16 rounds to zero, and the one factor that brings them back. Unit 3.7.

A network of three layers learns to read 8 x 8 digits, in float32. The gradients of its activations
are then what a backward pass in fp16 would have to keep. Loss scaling (Micikevicius et al., "Mixed
Precision Training", ICLR 2018, section 3.2) multiplies the loss by a power of two, and with it, by
the chain rule, every gradient; the optimizer divides by it in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .precision import FP16, Format, round_to

WIDTHS = (64, 64, 32, 10)  # pixels, two hidden layers, digits

Weights = list[np.ndarray]  # [inputs, outputs] of each layer, float32


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def forward(weights: Weights, x: np.ndarray) -> list[np.ndarray]:
    """The activations of each layer, x first: tanh, and softmax at the end. x: [images, 64]."""
    activations = [x]
    for w in weights[:-1]:
        activations.append(np.tanh(activations[-1] @ w))
    return [*activations, _softmax(activations[-1] @ weights[-1])]


def backward(weights: Weights, activations: list[np.ndarray], labels: np.ndarray) -> Weights:
    """Gradients of the mean cross-entropy with respect to what enters each layer's tanh or softmax.

    labels: int [images]. Returns, for each layer, [images, outputs].
    """
    images = len(labels)
    gradient = activations[-1].copy()
    gradient[np.arange(images), labels] -= 1
    gradient /= np.float32(images)
    found = [gradient]
    for w, a in zip(weights[:0:-1], activations[-2:0:-1], strict=True):
        gradient = (gradient @ w.T) * (1 - a * a)  # tanh' = 1 - tanh^2
        found.insert(0, gradient)
    return found


def train(x: np.ndarray, labels: np.ndarray, steps: int, rate: float = 2.0) -> Weights:
    """`steps` of gradient descent on all images at once, from seeded weights, in float32."""
    rng = np.random.default_rng(0)
    weights = [
        (rng.standard_normal((m, n)) / np.sqrt(m)).astype(np.float32)
        for m, n in zip(WIDTHS, WIDTHS[1:], strict=False)
    ]
    for _ in range(steps):
        activations = forward(weights, x)
        gradients = backward(weights, activations, labels)
        for w, a, g in zip(weights, activations, gradients, strict=False):
            w -= np.float32(rate) * (a.T @ g)
    return weights


@dataclass(frozen=True)
class Kept:
    """Shares of the gradients that are not zero, after rounding: 0 to 1."""

    lost: float  # became 0
    subnormal: float  # are below the smallest normal number, and have lost digits
    overflowed: float


def kept(gradients: np.ndarray, scale: float, format: Format = FP16) -> Kept:
    """What becomes of gradients that are multiplied by `scale`, then rounded to `format`."""
    there = gradients[gradients != 0].astype(np.float64)
    rounded = np.abs(round_to(there * scale, format))
    return Kept(
        lost=float((rounded == 0).mean()),
        subnormal=float(((rounded > 0) & (rounded < format.smallest_normal)).mean()),
        overflowed=float((~np.isfinite(rounded)).mean()),
    )
