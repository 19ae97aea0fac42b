"""Answers that learners give, right and wrong, one module a unit."""
