"""exp, log and the gamma functions of float32, written so that a compiler turns loops over them into vector instructions.

numba has no vector form of ``math.exp`` and its like without a library of Intel's, and a call for each number costs more than all
else. So here are polynomials (Cephes' ``expf`` and ``logf``; Stirling's series), within 1e-7 relative of the true functions, 1e-6 of
the gamma functions. ``step`` compiles what a loop calls: it may not reorder sums, by which errors of rounding are undone; ``loop``
compiles the loops themselves, which may; ``part`` those that loops are made of, always into the loop: what stands apart would be
compiled twice, in two ways, and which of them is called depends on whether it was compiled just now or earlier.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_COMMON: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}
loop = njit(fastmath=True, **_COMMON)
part = njit(fastmath=True, forceinline=True, **_COMMON)
step = njit(fastmath={"contract", "nnan", "nsz", "ninf", "arcp"}, forceinline=True, **_COMMON)

f4, i4 = np.float32, np.int32
ZERO, HALF, ONE, TWO, THREE, FOUR = f4(0), f4(0.5), f4(1), f4(2), f4(3), f4(4)
LOG2_E, LN2_HIGH, LN2_LOW = f4(1.44269504), f4(0.693359375), f4(-2.12194440e-4)
LOWEST, HIGHEST = f4(-87.3), f4(88.3)
E0, E1, E2, E3, E4, E5 = map(f4, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1))
L0, L1, L2, L3, L4 = map(f4, (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1))
L5, L6, L7, L8 = map(f4, (-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1))
S1, S2, S3 = f4(1 / 12), f4(1 / 360), f4(1 / 1260)
D1, D2 = f4(1 / 120), f4(1 / 252)
MANTISSA, SQRT_HALF, BIAS = i4(23), i4(0x3F3504F3), i4(127)
SIGN, ALL_BUT_SIGN, INFINITE, NOT_A_NUMBER = i4(31), i4(0x7FFFFFFF), i4(0x7F800000), i4(0x7FC00000)


@intrinsic
def bits(typing: Any, x: Any) -> Any:
    """The bits of a float32 as an int32."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def number(typing: Any, x: Any) -> Any:
    """The float32 of these bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic
def wide(typing: Any) -> Any:
    """Let a function's loops have vectors of 512 bits, half of which LLVM leaves idle on Intel's processors: an eighth faster there."""

    def ask(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        attributes = builder.function.attributes
        if isinstance(attributes, set):  # whose own ``add`` knows only those without a value
            set.add(attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), ask


@step
def exp(x: float) -> float:
    """e^x: 2^n times a polynomial of what is left."""
    x = min(max(x, LOWEST), HIGHEST)
    n = np.floor(x * LOG2_E + HALF)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    y = (((((E0 * r + E1) * r + E2) * r + E3) * r + E4) * r + E5) * (r * r) + r + ONE
    return y * number(i4(i4(i4(n) + BIAS) << MANTISSA))


@step
def log(x: float) -> float:
    """The natural logarithm of a positive x that is not denormal."""
    b = bits(x)
    e = i4(i4(b - SQRT_HALF) >> MANTISSA)
    f = number(i4(b - i4(e << MANTISSA))) - ONE
    z, n = f * f, f4(e)
    y = ((((((((L0 * f + L1) * f + L2) * f + L3) * f + L4) * f + L5) * f + L6) * f + L7) * f + L8) * f * z
    return (f + (y + n * LN2_LOW - HALF * z)) + n * LN2_HIGH


@step
def log1p(x: float, total: float, inverse: float) -> float:
    """log(1 + x) of x >= 0, given ``total = 1 + x`` and its inverse: what the sum lost in rounding is added again."""
    return log(total) + (x - (total - ONE)) * inverse


@step
def in_order(b: int) -> int:
    """Bits of a float32 as whole numbers of the same order; and back."""
    return i4(b ^ i4(i4(b >> SIGN) & ALL_BUT_SIGN))


@part
def largest(x: np.ndarray) -> float:
    """The largest of some numbers: of whole ones, as a maximum of floats is found one by one."""
    found = i4(-(2**31) + 1)
    for i in range(x.shape[0]):
        found = max(found, in_order(bits(x[i])))
    return number(in_order(found))


@part
def finite(x: np.ndarray) -> bool:
    """Whether all of some numbers are: by their bits, as a compiler that may reorder sums takes it for granted."""
    most = i4(0)
    for i in range(x.shape[0]):
        most = max(most, i4(bits(x[i]) & ALL_BUT_SIGN))
    return most < INFINITE


@step
def gamma_terms(x: float, theta: float) -> tuple[float, float]:
    """lgamma(x + theta) - lgamma(theta), and the same of digamma.

    Stirling's series of both, four steps of the recurrence on, subtracted term by term: the difference of two large numbers is never taken.
    """
    z = x + theta
    q0, q1 = theta + FOUR, z + FOUR
    i0, i1 = ONE / q0, ONE / q1
    part = x * i0
    level = log1p(part, ONE + part, q0 * i1)
    s0, s1 = i0 * i0, i1 * i1
    series = i1 * (S1 - s1 * (S2 - s1 * S3)) - i0 * (S1 - s0 * (S2 - s0 * S3))
    ratio = ((z * (z + ONE)) / (theta * (theta + ONE))) * (((z + TWO) * (z + THREE)) / ((theta + TWO) * (theta + THREE)))
    lgamma = (q0 - HALF) * level + x * (log(q1) - ONE) + series - log(ratio)
    steps = ONE / (theta * z) + ONE / ((theta + ONE) * (z + ONE))
    steps += ONE / ((theta + TWO) * (z + TWO)) + ONE / ((theta + THREE) * (z + THREE))
    slopes = s1 * (S1 - s1 * (D1 - s1 * D2)) - s0 * (S1 - s0 * (D1 - s0 * D2))
    return lgamma, level - HALF * (i1 - i0) - slopes + x * steps
