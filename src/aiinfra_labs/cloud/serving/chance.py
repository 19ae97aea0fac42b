"""Where a sequence's chance comes from: its own, and at each place of its text another. Unit 4.3.

A stream of random numbers that is read on and on gives other numbers as soon as one more is taken:
by a draft that was rejected, by a step that broke off. So the numbers are not read on. Each place
of each text has a source of its own, named by (seed, sample, place), and a text that is computed
again, in other company or on another engine, is the same text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Chance:
    """All chance of one sequence.

    PyTorch's generator for the CPU keeps 32 bits of a seed: by itself 1 and 1 + 2**32 are the same
    one, and sample 1 of seed 7 would be sample 0 of seed 8 if the two were added. SHA-256 of the
    names keeps them apart; that two sequences meet at all of their places has no probability.
    """

    name: bytes  # 32 bytes
    seeded: bool  # the caller gave the seed, and may expect the same text again

    @classmethod
    def of(cls, seed: int | None, engine_seed: int, arrival: int, sample: int) -> Chance:
        """seed: the request's; without one, the engine's and the request's arrival number."""
        whose = f"engine {engine_seed} request {arrival}" if seed is None else f"seed {seed}"
        return cls(hashlib.sha256(f"{whose} sample {sample}".encode()).digest(), seed is not None)

    def at(self, place: int, purpose: str = "token") -> torch.Generator:
        """The source for the token at a place of the text, prompt included.

        purpose: what else is drawn there, such as a draft, has numbers of its own.
        """
        name = hashlib.sha256(self.name + f"{purpose} {place}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(name[:8], "big"))
