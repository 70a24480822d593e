"""GMRES (preconditioned from the right), conjugate residuals and conjugate gradients, for many systems at once.

scipy's solvers take one system of numpy vectors; here a batch of nuclei is solved in lockstep on the
device that holds it, each with its own matrix.

References
----------
Saad & Schultz, SIAM J. Sci. Stat. Comput. 7, 856 (1986), doi:10.1137/0907058.
Eisenstat, Elman & Schultz, SIAM J. Numer. Anal. 20, 345 (1983), doi:10.1137/0720023 (truncated conjugate residuals).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Operator = Callable[[torch.Tensor], torch.Tensor]

BASIS_BYTES = 2**29
SINGLE_PRECISION_TOLERANCE = 1e-4
CHECK_EVERY = 5  # Arnoldi steps between two looks at the residual
CANCELLATION = 0.5  # a vector that orthogonalisation shortens below this is orthogonalised again
SMALL = 1e-300  # keeps 0 / 0 out of the entries of a batch that are solved already


def gmres(
    operator: Operator, right: torch.Tensor, *, precondition: Operator, tolerance: float,
    restart: int | None = None, cycles: int = 3,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Solve A x = b for every entry of the batch.

    Parameters
    ----------
    operator : x -> A x, batch first, linear in each entry on its own.
    right : b, (batch, ...).
    precondition : r -> M r, an approximate inverse of A.
    tolerance : stop when every |b - A x| <= tolerance |b|.
    restart, cycles : size of the Krylov space, and how many are built in turn. A large space rides over
        the slow modes of a pattern, where small ones stagnate; by default it is what half a GB holds, 20 to 120.

    Returns
    -------
    x, and the relative residual reached by each entry, (batch,). The caller judges it.
    """
    shape, batch = right.shape, right.shape[0]
    scale = _norm(right).clamp_min(torch.finfo(right.dtype).tiny)
    solution, residual = torch.zeros_like(right), right
    size = right[0].numel()
    if restart is None:
        restart = min(120, max(20, BASIS_BYTES // (right.element_size() * right.numel())))
    # Reading the basis is most of the cost. Half the digits are plenty for a solve to a percent: the residual that
    # counts is computed anew in full precision.
    stored = torch.float32 if tolerance >= SINGLE_PRECISION_TOLERANCE else right.dtype
    basis = torch.empty(batch, restart + 1, size, dtype=stored, device=right.device)
    for _ in range(cycles):
        start = _norm(residual)
        if bool((start <= tolerance * scale).all()):
            break
        basis[:, 0] = residual.reshape(batch, -1) / start.clamp_min(SMALL)[:, None]
        hessenberg = torch.zeros(batch, restart + 1, restart, dtype=right.dtype)
        for step in range(restart):
            vector = basis[:, step].to(right.dtype).reshape(shape)
            image = operator(precondition(vector)).reshape(batch, -1).to(stored)
            image, column = _orthogonalise(image, basis[:, : step + 1])
            length = _norm(image)
            hessenberg[:, : step + 1, step] = column.cpu()
            hessenberg[:, step + 1, step] = length.cpu()
            basis[:, step + 1] = image / length.clamp_min(SMALL)[:, None]
            if (step + 1) % CHECK_EVERY and step + 1 < restart:
                continue
            weights, left = _least_squares(hessenberg[:, : step + 2, : step + 1], start.cpu())
            if bool((left <= tolerance * scale.cpu()).all()):
                break
        used = basis[:, : weights.shape[1]]
        combined = torch.einsum("bk,bkn->bn", weights.to(used), used).to(right.dtype)
        solution = solution + precondition(combined.reshape(shape))
        residual = right - operator(solution)
    return solution, _norm(residual) / scale


def conjugate_residuals(
    operator: Operator, right: torch.Tensor, *, tolerance: float, window: int, iterations: int = 600
) -> torch.Tensor:
    """Solve A x = b for an A that is symmetric or nearly so, one system per entry of the batch.

    Each direction is made conjugate to the last `window` ones; two are enough where A is symmetric, some more
    where it is not quite. Unlike `gmres` this needs few vectors, and no restarts.

    Parameters
    ----------
    right : b, (batch, ...), real or complex; a complex number counts as two real ones.
    tolerance : stop when every |b - A x| <= tolerance |b|.
    iterations : at most; the caller judges what was found.
    """
    residual, solution = right.clone(), torch.zeros_like(right)
    left, found = _as_real(residual), _as_real(solution)  # views: both are changed in place
    directions = left.new_zeros(window, *left.shape)
    images = torch.zeros_like(directions)
    enough = tolerance * _norm(left)
    for step in range(iterations):
        if bool((_norm(left) <= enough).all()):
            break
        image = _as_real(operator(residual))
        overlap = torch.einsum("wbn,bn->wb", images, image)
        image = image - torch.einsum("wb,wbn->bn", overlap, images)
        direction = left - torch.einsum("wb,wbn->bn", overlap, directions)
        length = _norm(image).clamp_min(torch.finfo(image.dtype).tiny)[:, None]
        image, direction = image / length, direction / length
        images[step % window], directions[step % window] = image, direction
        stretch = torch.einsum("bn,bn->b", image, left)[:, None]
        found.add_(stretch * direction)
        left.sub_(stretch * image)
    return solution


def conjugate_gradients(
    operator: Operator, right: torch.Tensor, *, precondition: Operator, tolerance: float, ndim: int,
    iterations: int = 200,
) -> torch.Tensor:  # fmt: skip
    """Solve A x = b for symmetric positive definite A, one system per entry of the leading axes.

    Parameters
    ----------
    operator, precondition : x -> A x and r -> M r, symmetric and positive, acting on the last `ndim` axes.
    tolerance : stop when every |b - A x| <= tolerance, the largest component.
    iterations : at most; a caller that adapts its step sees an unsolved system as an error of the step.
    """
    axes = tuple(range(-ndim, 0))
    solution = precondition(right)
    residual = right - operator(solution)
    image = precondition(residual)
    direction, product = image, (residual * image).sum(axes, keepdim=True)
    for _ in range(iterations):
        if float(residual.abs().max()) <= tolerance:
            break
        curvature = operator(direction)
        length = product / (direction * curvature).sum(axes, keepdim=True).clamp_min(SMALL)
        solution = solution + length * direction
        residual = residual - length * curvature
        image = precondition(residual)
        before, product = product, (residual * image).sum(axes, keepdim=True)
        direction = image + product / before.clamp_min(SMALL) * direction
    return solution


def _as_real(values: torch.Tensor) -> torch.Tensor:
    """The same numbers as real ones, (batch, n); a view of a contiguous tensor."""
    return (torch.view_as_real(values) if values.is_complex() else values).flatten(1)


def _norm(values: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(values.reshape(values.shape[0], -1), dim=1)


def _orthogonalise(image: torch.Tensor, basis: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Classical Gram-Schmidt, a second time where the first one cancelled digits."""
    total = torch.zeros(basis.shape[:2], dtype=image.dtype, device=image.device)
    for _ in range(2):
        before = _norm(image)
        column = torch.einsum("bkn,bn->bk", basis, image)
        image = image - torch.einsum("bk,bkn->bn", column, basis)
        total = total + column
        if bool((_norm(image) > CANCELLATION * before).all()):
            break
    return image, total


def _least_squares(hessenberg: torch.Tensor, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights that minimise |start e1 - H y|, and what is left."""
    target = torch.zeros(hessenberg.shape[0], hessenberg.shape[1], 1, dtype=hessenberg.dtype)
    target[:, 0, 0] = start
    # A zero row or column (an entry that converged early) needs the minimum-norm solution: gelsd, not gels.
    weights = torch.linalg.lstsq(hessenberg, target, driver="gelsd").solution
    left = torch.linalg.vector_norm((hessenberg @ weights - target)[..., 0], dim=1)
    return weights[..., 0], left
