"""Sums and dot products in a chosen precision, one rounding after another. Unit 3.7.

`terms` has the terms along the first axis, [n, ...]; each of the other places is a sum of its own.
A result is what hardware gives that rounds each sum to `accumulator`, as float64. For bounds on the
errors see N. J. Higham, "The Accuracy of Floating Point Summation" (SIAM J. Sci. Comput. 14, 1993):
with u = `accumulator.unit_roundoff`, |error| is at most about n u sum|t| one after another,
log2(n) u sum|t| in pairs, and 2 u sum|t| with Kahan's correction, whatever n.
"""

from __future__ import annotations

import numpy as np

from .precision import Format, round_to


def products(a: np.ndarray, b: np.ndarray, inputs: Format) -> np.ndarray:
    """The exact products of a and b, both rounded to `inputs` first: what a multiplier hands on.

    a, b: [n, ...]. A product of two numbers of at most 11 bits has 22: fp32 holds it.
    """
    return round_to(a, inputs) * round_to(b, inputs)


def one_by_one(terms: np.ndarray, accumulator: Format) -> np.ndarray:
    """((t0 + t1) + t2) + ..., rounded after each addition. terms: [n, ...]. Returns [...]."""
    total = np.zeros(terms.shape[1:])
    for term in terms:
        total = round_to(total + term, accumulator)
    return total


def pairwise(terms: np.ndarray, accumulator: Format) -> np.ndarray:
    """Neighbours are added, then the sums of neighbours, ...: a tree of log2(n) levels."""
    terms = round_to(terms, accumulator)
    while len(terms) > 1:
        if len(terms) % 2:
            terms = np.concatenate([terms, np.zeros((1, *terms.shape[1:]))])
        terms = round_to(terms[::2] + terms[1::2], accumulator)
    return terms[0] if len(terms) else np.zeros(terms.shape[1:])


def kahan(terms: np.ndarray, accumulator: Format) -> np.ndarray:
    """One by one, and what each addition rounds away is added to the next term.

    W. Kahan, "Further Remarks on Reducing Truncation Errors", Communications of the ACM 8 (1965).
    """
    total = np.zeros(terms.shape[1:])
    lost = np.zeros(terms.shape[1:])  # what the total has too much, from the last rounding
    for term in terms:
        corrected = round_to(round_to(term, accumulator) - lost, accumulator)
        larger = round_to(total + corrected, accumulator)
        lost = round_to(round_to(larger - total, accumulator) - corrected, accumulator)
        total = larger
    return total


def promoted(terms: np.ndarray, inner: Format, outer: Format, every: int) -> np.ndarray:
    """One by one in `inner`; after `every` terms the sum goes to one in `outer`, and starts anew.

    DeepSeek-V3 does so every 128 terms, because the tensor cores of the H800 kept about 14 bits
    of a sum of fp8 products (arXiv:2412.19437, section 3.3.2).
    """
    total = np.zeros(terms.shape[1:])
    for begin in range(0, len(terms), every):
        total = round_to(total + one_by_one(terms[begin : begin + every], inner), outer)
    return total
