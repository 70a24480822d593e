"""Several nuclei at once are what each would be alone, on every device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from chromamol.errors import FieldError
from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic import SolverSettings, simulate_chromatin, simulate_chromatin_batch
from chromamol.synthetic.ripen import interpolate
from chromamol.synthetic.shapes import nucleus_mask
from chromamol.synthetic.steady import Outcome

SETTINGS = SolverSettings(steadiness=1e-6)


@pytest.mark.parametrize("walled", [False, True])
def test_batch_equals_singles(walled: bool, reference: ChromatinParameters) -> None:
    mask = nucleus_mask(0.9, (0.06, 0.06), rng=np.random.default_rng(0)) if walled else None
    shape = None if walled else (16, 16)
    common = {
        "pixel_size_um": 0.06,
        "parameters": reference,
        "mask": mask,
        "shape": shape,
        "settings": SETTINGS,
    }
    rates = [0.8, 1.2]
    batch = simulate_chromatin_batch(rates, [1.0] * 2, seeds=[4, 5], **common)
    for rate, seed, found in zip(rates, (4, 5), batch, strict=True):
        alone = simulate_chromatin(rate, 1.0, seed=seed, **common)
        assert found.outcome is alone.outcome is Outcome.STEADY
        # Both stop anywhere under 1e-6: rounding sets where, the slowest mode how far that is from the end.
        np.testing.assert_allclose(found.heterochromatin, alone.heterochromatin, atol=1e-4)
        assert found.total[found.mask].mean() == pytest.approx(0.5, abs=1e-10)


@pytest.mark.parametrize(
    "counts", [(0, 0, None), (2, 1, None), (2, 2, [0])], ids=["none", "unequal rates", "too few seeds"]
)
def test_lists_that_do_not_match_are_refused(counts, reference: ChromatinParameters) -> None:
    methylation, acetylation, seeds = counts
    with pytest.raises(FieldError, match="as many of each"):
        simulate_chromatin_batch(
            [1.0] * methylation, [1.0] * acetylation, seeds=seeds, pixel_size_um=0.06, shape=(16, 16),
            parameters=reference,
        )  # fmt: skip


def test_interpolation_between_grids_is_exact_on_waves() -> None:
    def wave(shape: tuple[int, int]) -> torch.Tensor:
        y, x = np.meshgrid(*[2 * np.pi * np.arange(n) / n for n in shape], indexing="ij")
        return torch.as_tensor(1.0 + np.sin(2 * y + 0.3) * np.cos(3 * x))[None, None]

    torch.testing.assert_close(interpolate(wave((12, 16)), (24, 32)), wave((24, 32)), rtol=0.0, atol=1e-13)


def test_ripening_on_a_coarser_grid_keeps_chromatin_and_ends_steady(reference: ChromatinParameters) -> None:
    state = simulate_chromatin(
        1.0, 1.0, pixel_size_um=0.04, shape=(40, 40), parameters=reference, seed=1, settings=SETTINGS
    )
    assert state.outcome is Outcome.STEADY
    assert state.total.mean() == pytest.approx(0.5, abs=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_finds_the_pattern_of_the_cpu(reference: ChromatinParameters) -> None:
    cpu_nuclei, cuda_nuclei = (
        simulate_chromatin_batch(
            [0.8, 1.2], [1.0, 1.0], pixel_size_um=0.06, shape=(24, 24), parameters=reference,
            settings=replace(SETTINGS, device=device),
        )
        for device in ("cpu", "cuda")
    )  # fmt: skip
    for cpu, cuda in zip(cpu_nuclei, cuda_nuclei, strict=True):
        np.testing.assert_allclose(cuda.heterochromatin, cpu.heterochromatin, atol=1e-4)
