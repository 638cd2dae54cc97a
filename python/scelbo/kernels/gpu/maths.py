"""Logarithms and the gamma functions of float32 in Triton, as :mod:`scelbo.kernels.maths` has them for processors.

A GPU's own logarithm is quick and, near one, not exact: log(1 + x) of a small x would lose half of its digits.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def log(x):
    """The natural logarithm of a positive x that is not denormal (Cephes' ``logf``)."""
    b = x.to(tl.int32, bitcast=True)
    e = (b - 0x3F3504F3) >> 23
    f = (b - (e << 23)).to(tl.float32, bitcast=True) - 1.0
    z = f * f
    n = e.to(tl.float32)
    y = 7.0376836292e-2 * f - 1.1514610310e-1
    y = (y * f + 1.1676998740e-1) * f - 1.2420140846e-1
    y = (y * f + 1.4249322787e-1) * f - 1.6668057665e-1
    y = (y * f + 2.0000714765e-1) * f - 2.4999993993e-1
    y = (y * f + 3.3333331174e-1) * f * z
    return (f + (y + n * -2.12194440e-4 - 0.5 * z)) + n * 0.693359375


@triton.jit
def log1p(x, total, inverse):
    """log(1 + x) of x >= 0, given ``total = 1 + x`` and its inverse: what the sum lost in rounding is added again."""
    return log(total) + (x - (total - 1.0)) * inverse


@triton.jit
def over(mu, theta):
    """L = log(1 + mu / theta), s = mu / (theta + mu), and 1 - s."""
    ratio = mu / theta
    total = 1.0 + ratio
    inverse = 1.0 / total
    return log1p(ratio, total, inverse), ratio * inverse, inverse


@triton.jit
def gamma_terms(x, theta):
    """lgamma(x + theta) - lgamma(theta), and the same of digamma: Stirling's series, four steps of the recurrence on, term by term."""
    z = x + theta
    q0, q1 = theta + 4.0, z + 4.0
    i0, i1 = 1.0 / q0, 1.0 / q1
    part = x * i0
    level = log1p(part, 1.0 + part, q0 * i1)
    s0, s1 = i0 * i0, i1 * i1
    series = i1 * (1 / 12 - s1 * (1 / 360 - s1 / 1260)) - i0 * (1 / 12 - s0 * (1 / 360 - s0 / 1260))
    ratio = ((z * (z + 1.0)) / (theta * (theta + 1.0))) * (((z + 2.0) * (z + 3.0)) / ((theta + 2.0) * (theta + 3.0)))
    lgamma = (q0 - 0.5) * level + x * (log(q1) - 1.0) + series - log(ratio)
    steps = 1.0 / (theta * z) + 1.0 / ((theta + 1.0) * (z + 1.0))
    steps += 1.0 / ((theta + 2.0) * (z + 2.0)) + 1.0 / ((theta + 3.0) * (z + 3.0))
    slopes = s1 * (1 / 12 - s1 * (1 / 120 - s1 / 252)) - s0 * (1 / 12 - s0 * (1 / 120 - s0 / 252))
    return lgamma, level - 0.5 * (i1 - i0) - slopes + x * steps
