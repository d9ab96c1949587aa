"""The steps of the longer formulas in ``OPTIMIZERS``, as loops in NumPy; the letters are those of the formulas.

Each takes the gradients, the parameters before each step, the step sizes and the momenta, then b and epsilon.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[Any]
Vectors: TypeAlias = Sequence[Vector]
Numbers: TypeAlias = Sequence[float]
size = np.linalg.norm


def adam(gs: Vectors, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    v = s = np.zeros_like(gs[0])
    for t, (g, m) in enumerate(zip(gs, momenta, strict=True), 1):
        v, s = m * v + (1 - m) * g, b * s + (1 - b) * g**2
        yield v / (1 - m**t) / (np.sqrt(s / (1 - b**t)) + e)


def ademamix(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    u = s = np.zeros_like(gs[0])
    for t, (g, a, d) in enumerate(zip(gs, rates, adam(gs, momenta, b, e), strict=True), 1):
        s, u = b * s + (1 - b) * g**2, 0.999 * u + 0.001 * g
        yield a * (d + 5 * u / (np.sqrt(s / (1 - b**t)) + e))


def adopt(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    v, s = 0 * gs[0], gs[0] ** 2
    yield v
    for t, (g, a, m) in enumerate(zip(gs[1:], rates[1:], momenta[1:], strict=True), 2):
        d = np.clip(g / np.maximum(np.sqrt(s), e), -((t - 1) ** 0.25), (t - 1) ** 0.25)
        v, s = m * v + (1 - m) * d, b * s + (1 - b) * g**2
        yield a * v


def mars(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    changes = [0 * gs[0], *np.diff(gs, axis=0)]
    corrected = [g + 0.025 * m / (1 - m) * change for g, m, change in zip(gs, momenta, changes, strict=True)]
    steps = adam([c / max(1, size(c)) for c in corrected], momenta, b, e)
    return (a * d for a, d in zip(rates, steps, strict=True))


def shampoo(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    def root(side: Vector) -> Vector:
        values, vectors = np.linalg.eigh(side)
        return vectors @ np.diag(values**-0.25) @ vectors.T

    is_matrix, v = gs[0].ndim == 2, 0 * gs[0]
    sums = [e * np.eye(n) for n in gs[0].shape] if is_matrix else [e + v]
    roots: list[Vector] = []
    for t, (g, a, m) in enumerate(zip(gs, rates, momenta, strict=True), 1):
        v = m * v + (1 - m) * g
        sums = [s + x for s, x in zip(sums, (g @ g.T, g.T @ g) if is_matrix else (g**2,), strict=True)]
        if t <= 10 or t % 10 == 0:
            roots = [root(s) if is_matrix else s**-0.5 for s in sums]
        yield a * (roots[0] @ v @ roots[1] if is_matrix else roots[0] * v)


def soap(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    if gs[0].ndim < 2:
        yield from (a * d for a, d in zip(rates, adam(gs, momenta, b, e), strict=True))
        return
    v = s = 0 * gs[0]
    p, q = map(np.eye, gs[0].shape)
    left, right = 0 * p, 0 * q
    for t, (g, a, m) in enumerate(zip(gs, rates, momenta, strict=True), 1):
        v, s = m * v + (1 - m) * g, b * s + (1 - b) * (p.T @ g @ q) ** 2
        yield a * p @ (p.T @ v @ q / (1 - m**t) / (np.sqrt(s / (1 - b**t)) + e)) @ q.T
        left, right = b * left + (1 - b) * g @ g.T, b * right + (1 - b) * g.T @ g
        if t % 10 == 0:
            p, q = np.linalg.qr(left @ p)[0], np.linalg.qr(right @ q)[0]


def prodigy(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    v = s = q = np.zeros_like(gs[0])
    p, d = 0.0, 1e-6
    for t, (g, w, a, m) in enumerate(zip(gs, ws, rates, momenta, strict=True), 1):
        k = np.sqrt(1 - b**t) / (1 - m**t)
        v, s = m * v + (1 - m) * d * g, b * s + (1 - b) * (d * g) ** 2
        yield a * k * d * v / (np.sqrt(s) + d * e)
        p, q = np.sqrt(b) * p + a * k * d**2 * (g @ (w - ws[0])), np.sqrt(b) * q + a * k * d**2 * g
        d = max(d, p / np.abs(q).sum())


def dadapt_adam(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    v = s = q = np.zeros_like(gs[0])
    p, d, c = 0.0, 1e-6, np.sqrt(b)
    for t, (g, a, m) in enumerate(zip(gs, rates, momenta, strict=True), 1):
        k = np.sqrt(1 - b**t) / (1 - m**t)
        p = c * p + a * k * d * (g @ (q / (np.sqrt(s) + e)))
        v, s, q = m * v + (1 - m) * a * k * d * g, b * s + (1 - b) * g**2, c * q + (1 - c) * a * k * d * g
        yield v / (np.sqrt(s) + e)
        d = max(d, p / np.abs(q).sum())


def dog(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    r, s = 1e-6 * (1 + size(ws[0])), np.zeros(())
    for g, w, a in zip(gs, ws, rates, strict=True):
        r, s = max(r, size(w - ws[0])), s + g @ g
        yield a * r * g / np.sqrt(s + e)


def dowg(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    r, s = np.sqrt(e), 0.0
    for g, w, a in zip(gs, ws, rates, strict=True):
        r = max(r, float(size(w - ws[0])))
        s = s + r**2 * (g @ g)
        yield a * r**2 * g / (np.sqrt(s) + e)


def mechanic(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    x = np.zeros_like(gs[0])
    n = p = q = r = np.zeros(6)
    c = np.array([0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999])
    for g, w, a, d in zip(gs, ws, rates, adam(gs, momenta, b, e), strict=True):
        h = (g - 0.01 * r.sum() * size(g) / size(w) * w) @ x
        p = c * p + r * np.clip(h, -n, n)
        n, q = np.maximum(c * n, abs(h) + 1e-8), c**2 * q + h**2
        old, r = r.sum() * x, (1e-6 / 6 * n + np.maximum(0, p)) / (np.sqrt(q) + 1e-8)
        x = x + d
        yield a * (r.sum() * x - old)


def cocob(gs: Vectors, ws: Vectors, rates: Numbers, momenta: Numbers, b: float, e: float) -> Iterator[Vector]:
    x = u = q = p = np.zeros_like(gs[0])
    n = np.full_like(gs[0], e)
    for g, a in zip(gs, rates, strict=True):
        n, q, u, p = np.maximum(n, np.abs(g)), q + np.abs(g), u + g, np.maximum(0, p + x * g)
        old, x = x, u * (n + p) / (n * np.maximum(q + n, 100 * n))
        yield a * (x - old)


BY_HAND: dict[str, Callable[[Vectors, Vectors, Numbers, Numbers, float, float], Iterator[Vector]]] = {
    "ademamix": ademamix,
    "adopt": adopt,
    "mars": mars,
    "shampoo": shampoo,
    "soap": soap,
    "prodigy": prodigy,
    "dadapt_adam": dadapt_adam,
    "dog": dog,
    "dowg": dowg,
    "mechanic": mechanic,
    "cocob": cocob,
}
