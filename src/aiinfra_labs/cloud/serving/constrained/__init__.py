"""Answers that are JSON, or fit a JSON Schema, by construction. Unit 4.3."""

from .constraint import JsonConstraint, State
from .kept import Kept
from .vocabulary import Vocabulary, token_bytes

__all__ = ["JsonConstraint", "Kept", "State", "Vocabulary", "token_bytes"]
