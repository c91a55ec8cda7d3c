"""Minimal filtering F(m x m, 3x3) after Winograd (1980), as Lavin and Gray (2016) apply it to convolutions.

A tile of m x m outputs of a 3x3 convolution takes (m + 2)^2 multiplications a channel pair instead of 9 m^2:
outputs = A^T [(G g G^T) * (B^T d B)] A, with g the 3x3 weights and d the (m + 2) x (m + 2) inputs. The matrices follow
from the points at which the polynomials of inputs and weights are multiplied (Cook and Toom): 0, pairs of +a and -a,
and infinity. Rows of a pair share all their products, so that the transforms are written by points, not by matrices.
"""

import dataclasses
import functools
from fractions import Fraction

import numpy as np

from carfix.net.config import KERNEL
from carfix.restore.engine.llvm.vectors import Code, Value, Vectors
from carfix.restore.engine.planes import Floats


@dataclasses.dataclass(frozen=True)
class Transform:
    """One dimension of F(m, 3), by its pairs of points."""

    pairs: tuple[Fraction, ...]
    #: What rows of G are multiplied by, and columns of A^T divided: for 0, each pair and infinity; none: 1. The first
    #: pair's is 1.
    sizes: tuple[Fraction, ...] | None = None

    @property
    def balance(self) -> list[Fraction]:
        """`sizes` of each point."""
        if self.sizes is None:
            return [Fraction(1)] * self.size
        first, *pairs, last = self.sizes
        return [first, *(size for pair in pairs for size in (pair, pair)), last]

    @property
    def size(self) -> int:
        """Inputs of a tile along one dimension, and products."""
        return 2 * len(self.pairs) + 2

    @property
    def outputs(self) -> int:
        """Outputs of a tile along one dimension: m."""
        return self.size - KERNEL + 1

    @property
    def products(self) -> int:
        """Multiplications a tile and channel pair."""
        return self.size**2

    @functools.cached_property
    def _rows(self) -> list[list[Fraction]]:
        """Lavin and Gray's G: the polynomial of the weights at each point, over what B^T leaves out."""
        finite = [Fraction(0), *(sign * a for a in self.pairs for sign in (1, -1))]
        rows = []
        for point in finite:
            scale = Fraction(1)
            for other in finite:
                scale *= point - other if other != point else 1
            rows.append([point**power / scale for power in range(KERNEL)])
        return [*rows, [Fraction(power == KERNEL - 1) for power in range(KERNEL)]]  # infinity

    def weights(self, weights: Floats) -> Floats:
        """G g G^T: `[K, C, 3, 3]` to `[products, C, K]`, by way of fp64."""
        rows = [[size * number for number in row] for size, row in zip(self.balance, self._rows, strict=True)]
        g = np.array(rows, dtype=np.float64)
        transformed = np.einsum("ia,kcab,jb->ijck", g, weights.astype(np.float64), g)
        outputs, inputs = weights.shape[:2]
        return np.ascontiguousarray(transformed.reshape(self.products, inputs, outputs).astype(np.float32))

    def input_matrix(self) -> Floats:
        """B^T, `[size, size]`: what `inputs` multiplies with."""
        matrix = np.zeros((self.size, self.size), np.float32)
        of_all = _even_polynomial(self.pairs)
        matrix[0, 0::2], matrix[-1, 1::2] = of_all, of_all
        for number, a in enumerate(self.pairs):
            rest = _even_polynomial(tuple(other for other in self.pairs if other != a))
            for row, point in ((2 * number + 1, a), (2 * number + 2, -a)):
                matrix[row, 2::2] = rest
                matrix[row, 1:-1:2] = [point * coefficient for coefficient in rest]
        return matrix

    def inputs(self, code: Code, vectors: Vectors, d: list[Value]) -> list[Value]:
        """B^T d, of vectors: the polynomials that vanish at all points but one, times the inputs."""
        of_all = _even_polynomial(self.pairs)
        results = [vectors.combination(code, of_all, d[0::2])]  # 0
        for a in self.pairs:
            rest = _even_polynomial(tuple(other for other in self.pairs if other != a))
            even = vectors.combination(code, rest, d[2::2])  # x^2 q(x^2)
            odd = vectors.combination(code, rest, d[1::2])  # x q(x^2)
            results += [
                vectors.multiply_add(code, float(a), odd, even),
                vectors.multiply_add(code, -float(a), odd, even),
            ]
        return [*results, vectors.combination(code, of_all, d[1::2])]  # infinity

    def results(self, code: Code, vectors: Vectors, products: list[Value]) -> list[Value]:
        """A^T m, of vectors: the products' polynomial, its coefficients from its values at the points."""
        shares = [1 / size for size in self.balance]
        first, last = products[0], products[-1]
        pairs = list(zip(products[1:-1:2], products[2:-1:2], strict=True))
        sums = [code.fadd(plus, minus) for plus, minus in pairs]
        differences = [code.fsub(plus, minus) for plus, minus in pairs]
        of_pairs = list(zip(self.pairs, shares[1:-1:2], strict=True))
        results = []
        for power in range(self.outputs):
            coefficients = [a**power * share for a, share in of_pairs]
            terms = list(sums if power % 2 == 0 else differences)
            if power == 0:
                coefficients, terms = [*coefficients, shares[0]], [*terms, first]
            if power == self.outputs - 1:
                coefficients, terms = [*coefficients, shares[-1]], [*terms, last]
            results.append(vectors.combination(code, coefficients, terms))
        return results


def _even_polynomial(roots: tuple[Fraction, ...]) -> list[Fraction]:
    """Coefficients of the product of (x^2 - a^2), from 1 on, of even powers: the last is 1."""
    coefficients = [Fraction(1)]
    for a in roots:
        shifted = [Fraction(0), *coefficients]
        lowered = [-a * a * coefficient for coefficient in coefficients] + [Fraction(0)]
        coefficients = [x + y for x, y in zip(shifted, lowered, strict=True)]
    return coefficients


#: F(4x4, 3x3): 2.25 multiplications an output instead of 9. F(6x6, 3x3), with the pair 1/2 on top, has 1.78, but its
#: transforms take what that saves: no faster with 16, 32 or 64 channels, and errors twice as large.
F4 = Transform((Fraction(1), Fraction(2)))

#: The same for products of integers. With these sizes, which were read off the shipped networks, their weights are as
#: large for every point, in the mean, once multiplied by how large inputs become: one factor then suits the integers of
#: all products of an output channel.
F4_BALANCED = dataclasses.replace(F4, sizes=(Fraction(9, 8), Fraction(1), Fraction(3), Fraction(2, 7)))
