"""Answers that are JSON, or fit a JSON Schema, by construction. Unit 4.3."""

from .constraint import JsonConstraint, State
from .vocabulary import Vocabulary, token_bytes

__all__ = ["JsonConstraint", "State", "Vocabulary", "token_bytes"]
