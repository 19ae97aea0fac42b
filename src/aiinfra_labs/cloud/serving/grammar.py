"""The place of a sequence in its constraint: which tokens may follow, and what one leads to.

Unit 4.3. The constraint is `constrained`'s; what is added here is the end: a text that is whole may
end, and only then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .constrained import JsonConstraint


@dataclass(frozen=True)
class Grammar:
    """A constraint and the state that a sequence is in. ends: the tokens that end a text."""

    constraint: JsonConstraint
    state: Any
    ends: tuple[int, ...]

    def mask(self) -> Tensor:
        """Which tokens may follow: bool [V]. Behind a whole value, the end alone."""
        allowed = self.constraint.mask(self.state)
        if self.constraint.complete(self.state):
            allowed = allowed.clone()
            allowed[list(self.ends)] = True
        return allowed

    def advance(self, token: int) -> Grammar:
        """The state behind a token."""
        if token in self.ends:
            return self
        return Grammar(self.constraint, self.constraint.advance(self.state, token), self.ends)
