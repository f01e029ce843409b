"""Rotary positions from generators: ``R(x_1, ..., x_N) = exp(x_1 B_1 + ... + x_N B_N)``.

The score ``(R(x) q)^T R(y) k`` depends on ``y - x`` alone exactly if every B is skew-symmetric and they commute. Then
one orthogonal basis Q makes all of them block-diagonal, with 2 x 2 blocks ``[[0, -a], [a, 0]]``, and the rotation is
computed in that basis: ``R(x) = Q rot(sum_n x_n a_n) Q^T``.

The axis split of `kexue.nn.positions.rotary_nd` is the simplest case; ``exp(x i + y j)`` of quaternions is none, as i
and j do not commute.

Source: kexue.fm article 8397.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.positions.base import PositionEncoding
from kexue.nn.positions.rotary import rotate
from kexue.nn.positions.rotary_nd import to_coordinates

__all__ = ["GeneratorRotaryPosition", "common_planes", "rotary_from_generators"]


def common_planes(generators: Any, tolerance: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
    """Planes that commuting skew-symmetric matrices turn together.

    Args:
        generators: ``(axes, dim, dim)``.
        tolerance: relative to the largest entry, for what counts as skew and as commuting.

    Returns:
        ``(basis, speeds)``: an orthogonal basis ``(dim, dim)``, columns 2 p and 2 p + 1 spanning plane p and those
        after the last plane spanning what stays fixed; ``speeds`` ``(axes, planes)``, the angle in each plane at
        coordinate 1.

    Raises:
        ConfigError: a matrix is not skew-symmetric, or a pair does not commute; says which.
    """
    matrices = np.asarray(generators, "float64")
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or not len(matrices):
        raise ConfigError(f"generators must be square matrices of one size. Received: shape {matrices.shape}")
    if not np.isfinite(matrices).all():
        raise ConfigError("generators must be finite numbers.")
    size = np.abs(matrices).max(initial=1e-30)
    for n, b in enumerate(matrices):
        error = np.abs(b + b.T).max()
        if error > tolerance * size:
            raise ConfigError(
                f"generator {n} is not skew-symmetric (B^T = -B): the largest entry of B + B^T is {error:.3g}. "
                "Scores would not depend on differences of positions alone."
            )
    for n, a in enumerate(matrices):
        for m in range(n + 1, len(matrices)):
            error = np.abs(a @ matrices[m] - matrices[m] @ a).max()
            if error > tolerance * size**2:
                raise ConfigError(
                    f"generators {n} and {m} do not commute: the largest entry of AB - BA is {error:.3g}. "
                    "Scores would not depend on differences of positions alone."
                )
    matrices = (matrices - matrices.transpose(0, 2, 1)) / 2
    # A random combination has the common eigenvectors, and equal eigenvalues only where all generators have them.
    mixed = np.tensordot(np.random.default_rng(0).uniform(1, 2, len(matrices)), matrices, axes=1)
    values, vectors = np.linalg.eigh(1j * mixed)
    planes = vectors[:, values < -tolerance * size]
    fixed = vectors[:, np.abs(values) <= tolerance * size]
    speeds = np.einsum("dp,nde,ep->np", planes.conj(), matrices, planes).imag
    # B (a + i b) = i s (a + i b): the plane is turned from -b... to a by angle s, so b comes first.
    pairs = np.sqrt(2) * np.stack([planes.imag, planes.real], axis=-1).reshape(len(mixed), -1)
    rest = np.linalg.svd(pairs, full_matrices=True)[0][:, pairs.shape[1] :] if fixed.shape[1] else pairs[:, :0]
    return np.concatenate([pairs, rest], axis=1), speeds


def rotary_from_generators(generators: Any, **options: Any) -> "GeneratorRotaryPosition":
    """The encoding ``exp(x_1 B_1 + ... + x_N B_N)``, after a check of the matrices.

    Args:
        generators: ``(axes, dim, dim)``; dim is the key size.
        **options: of `GeneratorRotaryPosition`.

    Raises:
        ConfigError: not skew-symmetric, not commuting (the error names the pair), or not reversible.
    """
    return GeneratorRotaryPosition(np.asarray(generators, "float64").tolist(), **options)


@keras.saving.register_keras_serializable(package="kexue")
class GeneratorRotaryPosition(PositionEncoding):
    """Rotary positions from generators, inside attention; see the module. Any length.

    Args:
        generators: ``(axes, dim, dim)`` as nested lists; dim is the key size.
        grid: sizes of the axes, see `kexue.nn.positions.rotary_nd.RotaryNDPosition`; without it flat positions are
            taken where there is one axis.
        reversible: raise where different coordinates would give equal rotations because generators are linearly
            dependent.
    """

    def __init__(
        self, generators: Any, grid: Sequence[int] | None = None, reversible: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.generators = np.asarray(generators, "float64")
        self.grid = None if grid is None else [int(size) for size in grid]
        self.reversible = reversible
        basis, self.speeds = common_planes(self.generators)
        self.basis = basis.astype("float32")
        self.axes, self.dim = self.generators.shape[:2]
        if self.grid is not None and len(self.grid) != self.axes:
            raise ConfigError(f"grid must have one size a generator, {self.axes}. Received: grid={grid}")
        rank = np.linalg.matrix_rank(self.speeds)
        if reversible and rank < self.axes:
            raise ConfigError(
                f"the {self.axes} generators have rank {rank}: different coordinates would give the same rotation. "
                "Make them linearly independent, or pass reversible=False."
            )

    def apply(self, x: Any, coordinates: Any) -> Any:
        """Rotate ``x`` (batch, length, heads, dim) by ``coordinates`` (batch or 1, length, axes), in float32."""
        return self._turn(x, *self._angles(coordinates))

    def tables(self, query_positions: Any, key_positions: Any, **segments: Any) -> tuple[Any, ...]:
        query = self._angles(query_positions)
        return (*query, *(query if key_positions is query_positions else self._angles(key_positions)))

    def _angles(self, positions: Any) -> tuple[Any, Any]:
        if self.axes == 1 and self.grid is None and len(positions.shape) == 2:
            positions = ops.expand_dims(positions, -1)
        coordinates = ops.cast(to_coordinates(positions, self.axes, self.grid), "float32")
        speeds = ops.convert_to_tensor(self.speeds.astype("float32"))
        angles = ops.sum(coordinates[..., None] * speeds, axis=-2)[:, :, None]  # (B or 1, L, 1, planes)
        return ops.cos(angles), ops.sin(angles)

    def _turn(self, x: Any, cos: Any, sin: Any) -> Any:
        if x.shape[-1] != self.dim:
            raise ConfigError(f"the generators turn vectors of size {self.dim}. Received: size {x.shape[-1]}")
        basis = ops.convert_to_tensor(self.basis)
        inside = rotate(ops.matmul(ops.cast(x, "float32"), basis), cos, sin, "interleaved")
        return ops.cast(ops.matmul(inside, ops.transpose(basis)), x.dtype)

    def rotate(self, q: Any, k: Any, tables: tuple[Any, ...]) -> tuple[Any, Any]:
        return self._turn(q, tables[0], tables[1]), self._turn(k, tables[2], tables[3])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "generators": self.generators.tolist(),
            "grid": None if self.grid is None else list(self.grid),
            "reversible": self.reversible,
        }
