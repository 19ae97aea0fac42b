"""Grading that a notebook's own code cannot reach: a judge in one process, the answer in another.

`judge.py` says what is kept from whom, and what is not.
"""
