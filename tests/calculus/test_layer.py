"""The mollifier layer: analytic fields, adjoint, gradients, symmetry, other implementations, bad input."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from chromamol.calculus.apply import apply_adjoint
from chromamol.calculus.kernels import KERNELS
from chromamol.calculus.layer import (
    MollifierLayer,
    as_sums,
    bilaplacian,
    check_tensor,
    laplacian,
    mollified_derivative,
    plain_lengths,
)
from chromamol.calculus.taps import per_axis, taps_1d
from chromamol.errors import FieldError, KernelError

# torch warns about its own use of torch.jit.script when forward-mode derivatives are first loaded.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

SPACING = (0.1, 0.2, 0.3)
WIDTH = (0.55, 0.9, 1.3)
BORDERS = ["reflect", "periodic", "zero", "valid"]
SHAPES = {1: (41,), 2: (23, 37), 3: (13, 12, 14)}


def layer(ndim, border="reflect", **options):
    orders = [(0,) * ndim, laplacian(ndim), bilaplacian(ndim), (1,) + (0,) * (ndim - 1)]
    return MollifierLayer(orders=orders, spacing=SPACING[:ndim], width=WIDTH[:ndim], border=border, **options)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_adjoint_is_exact(ndim, border):
    module = layer(ndim, border)
    x = random(2, *SHAPES[ndim])
    kx = module(x)
    y = random(*kx.shape, seed=1)
    left, right = (kx * y).sum(), (x * apply_adjoint(module.operator, y)).sum()
    assert abs(left - right) <= 1e-12 * kx.norm() * y.norm()


@pytest.mark.parametrize("border", BORDERS)
def test_gradients_pass_gradcheck(border):
    module = MollifierLayer(orders=[(0, 0), (2, 0), (1, 1)], spacing=1.0, width=(3.5, 2.5), border=border)
    x = random(8, 7).requires_grad_()
    assert torch.autograd.gradcheck(module, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: module(v) ** 2, x)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_polynomials_are_differentiated_exactly(name):
    y, x = np.meshgrid(np.arange(40) * 0.1, np.arange(50) * 0.2, indexing="ij")
    field = y**4 - 3 * y**2 * x**2 + 2 * x**3 * y + x
    for order, answer in [((4, 0), 24 + 0 * x), ((2, 2), -12 + 0 * x), ((1, 3), 12 + 0 * x)]:
        got = mollified_derivative(
            field, order, spacing=(0.1, 0.2), width=(0.75, 1.5), kernel=name, border="valid"
        )
        inside = tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(field.shape, got.shape, strict=True))
        scale = np.abs(field).max() * np.abs(taps_1d(name, order[0], 0.75, 0.1)).sum()
        scale *= np.abs(taps_1d(name, order[1], 1.5, 0.2)).sum()
        np.testing.assert_allclose(got, answer[inside], rtol=0, atol=1e-13 * scale)


def test_a_smooth_field_is_differentiated_to_the_bias_of_the_kernel():
    x = np.arange(128) * (2 * np.pi / 128)
    field = np.sin(x)[:, None] * np.cos(2 * x)[None, :]
    for order, factor in [((0, 0), 1.0), ((2, 0), -1.0), ((0, 2), -4.0), ((2, 2), 4.0), ((0, 4), 16.0)]:
        got = mollified_derivative(
            field,
            order,
            spacing=2 * np.pi / 128,
            width=0.8,
            kernel="vanishing",
            kernel_order=8,
            border="periodic",
        )
        assert np.abs(got - factor * field).max() < 2e-4 * abs(factor)


def test_scipy_signal_agrees():
    field = random(60, 50).numpy()
    kernel = np.outer(taps_1d("polynomial", 2, 5.5, 1.0), taps_1d("polynomial", 1, 7.5, 1.0))
    expected = signal.correlate(field, kernel, mode="valid")
    got = mollified_derivative(field, (2, 1), spacing=1.0, width=(5.5, 7.5), border="valid")
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("border", "mode"), [("reflect", "reflect"), ("periodic", "wrap"), ("zero", "constant")]
)
def test_borders_agree_with_scipy_ndimage(border, mode):
    field = random(20, 25, 15).numpy()
    expected = field
    for axis, (k, w) in enumerate([(1, 4.5), (0, 6.5), (2, 5.5)]):
        expected = ndimage.correlate1d(expected, taps_1d("polynomial", k, w, 1.0), axis=axis, mode=mode)
    got = mollified_derivative(field, (1, 0, 2), spacing=1.0, width=(4.5, 6.5, 5.5), border=border)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_translation_and_reflection():
    module = layer(2, "periodic")
    x = random(*SHAPES[2])
    torch.testing.assert_close(module(x.roll((3, 5), (0, 1))), module(x).roll((3, 5), (1, 2)))
    parity = torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64)[:, None, None]
    for border in BORDERS:
        module = layer(2, border)
        torch.testing.assert_close(module(x.flip(0)), module(x).flip(1) * parity)


def test_any_leading_dimensions():
    module = layer(2)
    x = random(2, 3, *SHAPES[2])
    result = module(x)
    assert result.shape == (2, 3, 4, *SHAPES[2])
    torch.testing.assert_close(result[1, 2], module(x[1, 2]))
    assert module(x[:0]).shape == (0, 3, 4, *SHAPES[2])


def test_torch_func_and_vmap():
    module = layer(2)
    x, t = random(3, *SHAPES[2]), random(3, *SHAPES[2], seed=1)
    torch.testing.assert_close(torch.vmap(module)(x), module(x))
    moved = x.movedim(0, 1)
    torch.testing.assert_close(torch.vmap(module, in_dims=1)(moved), module(x))
    _, jvp = torch.func.jvp(module, (x,), (t,))
    torch.testing.assert_close(jvp, module(t))
    y, pull = torch.func.vjp(module, x)
    torch.testing.assert_close(pull(y)[0], apply_adjoint(module.operator, y))
    gradient = torch.func.grad(lambda v: module(v).square().sum())
    torch.testing.assert_close(torch.vmap(gradient)(x), 2 * apply_adjoint(module.operator, module(x)))


def test_the_function_twin_returns_what_it_was_given():
    x = random(30, 30)
    a = mollified_derivative(x, (2, 0), spacing=1.0, width=4.5)
    b = mollified_derivative(x.numpy(), (2, 0), spacing=1.0, width=4.5)
    assert isinstance(a, torch.Tensor)
    assert isinstance(b, np.ndarray)
    np.testing.assert_array_equal(a.numpy(), b)
    assert mollified_derivative(x.float(), (2, 0), spacing=1.0, width=4.5).dtype == torch.float32
    assert mollified_derivative(x[0], 2, spacing=1.0, width=4.5).shape == (30,)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_masked_samples_are_not_data(kind):
    field = np.ma.masked_array(np.ones((30, 30), dtype=kind), np.eye(30) > 0)
    field.data[field.mask] = -9999.0
    with pytest.raises(FieldError, match="30 NaN"):
        derivative_of(field)
    assert derivative_of(np.ma.masked_array(np.ones((30, 30), dtype=kind))).dtype == kind


# Rounding of the input alone is amplified by Σ|w|; these are in units of that.
DTYPE_TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


@pytest.mark.parametrize("dtype", list(DTYPE_TOLERANCE))
@pytest.mark.parametrize("order", [(0, 0), (2, 0), (2, 2), (4, 0)])
def test_precision_by_dtype(dtype, order):
    x = torch.linspace(-1, 1, 64, dtype=torch.float64)
    field = (x[:, None] ** 4 + x[None, :] ** 2 * x[:, None] ** 2).to(dtype)
    got = mollified_derivative(field, order, spacing=2 / 63, width=0.3, border="valid").double()
    exact = mollified_derivative(field.double(), order, spacing=2 / 63, width=0.3, border="valid")
    amplification = np.prod([np.abs(taps_1d("polynomial", k, 0.3, 2 / 63)).sum() for k in order])
    assert (got - exact).abs().max() <= DTYPE_TOLERANCE[dtype] * amplification


def derivative_of(array, *, spacing=1.0, width=3.0):
    return mollified_derivative(array, (2, 0), spacing=spacing, width=width)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: layer(2)(torch.ones(30)), FieldError, "at least 2 axes"),
        (lambda: layer(2)(torch.ones(30, 30, dtype=torch.int64)), FieldError, "float32 or float64"),
        (lambda: layer(2)(torch.ones(30, 30, dtype=torch.complex64)), FieldError, "real"),
        (lambda: layer(2)(torch.ones(30, 30, dtype=torch.float16)), FieldError, "float32"),
        (lambda: layer(2)(torch.full((30, 30), float("nan"))), FieldError, "900 NaN"),
        (lambda: layer(2)(torch.ones(3, 30)), FieldError, "same unit"),
        (lambda: layer(2, "sticky"), FieldError, "reflect, periodic, zero, valid"),
        (lambda: derivative_of(np.ones((9, 9), int)), FieldError, "float"),
        (lambda: derivative_of(np.ones((99, 99)), spacing=0.1, width=500.0), FieldError, "unit"),
        (lambda: derivative_of(np.ones((99, 99)), spacing=100.0, width=0.5), KernelError, "at least"),
        (lambda: derivative_of(np.ones((9, 9)), spacing=-1.0), KernelError, "positive"),
        (lambda: MollifierLayer(orders=[], spacing=1.0, width=3.0), KernelError, "at least one"),
        (
            lambda: MollifierLayer(orders=[(2,), (2, 0)], spacing=1.0, width=3.0),
            KernelError,
            "number of axes",
        ),
    ],
)
def test_bad_input_is_a_typed_error(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert caught.value.given
    assert caught.value.expected
    assert caught.value.do


def test_the_input_is_not_changed():
    x = random(30, 30)
    before = x.clone()
    layer(2)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_direct_and_fourier_agree(ndim, border):
    direct, fourier = layer(ndim, border, method="direct"), layer(ndim, border, method="fourier")
    x = random(2, *SHAPES[ndim])
    torch.testing.assert_close(direct(x), fourier(x), rtol=1e-12, atol=1e-9)
    y = random(*direct(x).shape, seed=1)
    torch.testing.assert_close(
        apply_adjoint(direct.operator, y), apply_adjoint(fourier.operator, y), rtol=1e-12, atol=1e-9
    )


def test_an_isotropic_kernel_is_the_same_in_all_directions():
    """What tells it from a product kernel: waves of every direction are damped alike."""
    n = torch.arange(-32, 33, dtype=torch.float64)
    spreads = {}
    for isotropic in (False, True):
        module = MollifierLayer(orders=[(0, 0)], spacing=1.0, width=9.0, isotropic=isotropic, border="valid")
        gains = []
        for angle in np.linspace(0, np.pi / 2, 7):
            wave = torch.cos(0.5 * (np.cos(angle) * n[:, None] + np.sin(angle) * n[None, :]))
            response = module(wave)[0]
            gains.append(float(response[response.shape[0] // 2, response.shape[1] // 2]))
        spreads[isotropic] = max(gains) - min(gains)
    assert spreads[True] < 0.1 * spreads[False]


def test_isotropic_gradients_and_adjoint():
    module = MollifierLayer(orders=[(0, 0), laplacian(2)], spacing=1.0, width=3.2, isotropic=True)
    x = random(8, 7).requires_grad_()
    assert torch.autograd.gradcheck(module, x)
    y = module(x.detach())
    left, right = (y * y).sum(), (x.detach() * apply_adjoint(module.operator, y)).sum()
    assert abs(left - right) <= 1e-12 * y.norm() ** 2


def test_a_learnable_width_starts_where_it_was_put_and_has_exact_gradients():
    module = MollifierLayer(orders=[(0, 0), (2, 0)], spacing=1.0, width=3.5, learnable_width=True)
    x = random(14, 15)
    fixed = MollifierLayer(orders=[(0, 0), (2, 0)], spacing=1.0, width=3.5)
    torch.testing.assert_close(module(x), fixed(x))

    def of_width(parameter):
        return torch.func.functional_call(module, {"width_parameter": parameter}, (x,))

    start = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of_width, start)


@pytest.mark.parametrize("kernel", ["polynomial", "gaussian", "bump"])
def test_a_learnable_width_has_second_derivatives(kernel):
    """The pixels that a support just misses have weight 0, whose root is not differentiable."""
    module = MollifierLayer(orders=[(2, 0)], spacing=1.0, width=4.3, learnable_width=True, kernel=kernel)
    x, start = random(9, 10), torch.tensor([0.3, -0.4], dtype=torch.float64)

    def loss(parameter):
        return torch.func.functional_call(module, {"width_parameter": parameter}, (x,)).square().mean()

    slopes, step = torch.autograd.functional, 1e-5 * torch.eye(2, dtype=torch.float64)
    ends = [[slopes.jacobian(loss, start + sign * each) for sign in (1, -1)] for each in step]
    differences = torch.stack([(after - before) / 2e-5 for after, before in ends])
    torch.testing.assert_close(slopes.hessian(loss, start), differences, rtol=1e-6, atol=1e-7)


def test_a_learnable_width_finds_the_width_that_made_the_data():
    x = random(40, 40)
    target = MollifierLayer(orders=[(0, 0)], spacing=1.0, width=6.0)(x)
    module = MollifierLayer(orders=[(0, 0)], spacing=1.0, width=4.0, learnable_width=True)
    optimiser = torch.optim.LBFGS(module.parameters(), max_iter=40, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = (module(x) - target).square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    np.testing.assert_allclose(module.width.detach().numpy(), 6.0, rtol=1e-2)


COMPILED = """
import shutil
import torch
from chromamol.calculus import MollifierLayer

module = MollifierLayer(orders=[(2, 0)], spacing=1.0, width=4.5)
# The default code generator needs a C++ compiler; aot_eager traces forward and backward likewise.
backend = "inductor" if shutil.which("g++") else "aot_eager"
compiled = torch.compile(module, backend=backend, fullgraph=True)
x = torch.randn(32, 32, dtype=torch.float64)
a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
first, second = compiled(a), module(b)
torch.testing.assert_close(first, second)
first.square().sum().backward()
second.square().sum().backward()
torch.testing.assert_close(a.grad, b.grad)
"""


def test_torch_compile_gives_the_same_numbers_and_gradients():
    # In a process of its own: the run-time type checks of this test session are not traceable.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_autocast_takes_no_digits():
    x, module = random(2, *SHAPES[2]).float(), layer(2)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module(x)
        (inside,) = torch.autograd.grad(mixed.square().sum(), x)
    full = module(x)
    (outside,) = torch.autograd.grad(full.square().sum(), x)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, full)
    assert torch.equal(inside, outside)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_the_cpu():
    x = random(3, *SHAPES[2])
    torch.testing.assert_close(layer(2)(x.cuda()).cpu(), layer(2)(x))


@pytest.mark.parametrize(
    "orders", [(2, 0), [2], 2, {(2, 0): 1.0}, [{}], [{2: 1.0}], ["20"], [{(2, 0): float("nan")}]]
)
def test_orders_that_are_no_list_of_derivatives_are_refused(orders):
    with pytest.raises(KernelError, match=r"\[\(2, 0\)\]"):
        as_sums(orders)


def test_lengths_may_be_tensors_and_what_is_none_is_refused():
    for width in (torch.tensor(3.5), np.float32(3.5), [3.5, 3.5], np.full(2, 3.5), torch.full((2,), 3.5)):
        assert per_axis(plain_lengths(width), 2, "width") == (3.5, 3.5)
    for width in (None, "3.5", {3.5}):
        with pytest.raises(KernelError, match="positive number"):
            per_axis(plain_lengths(width), 2, "width")


@pytest.mark.parametrize("width", [1e9, 1e308])
def test_a_kernel_that_no_field_holds_is_refused_before_it_is_built(width):
    with pytest.raises(KernelError, match="same unit"):
        MollifierLayer(orders=[(2, 0)], spacing=1.0, width=width)
    with pytest.raises(KernelError, match="same unit"):
        MollifierLayer(orders=[(2, 0)], spacing=1.0, width=min(width, 3000.0), isotropic=True)


@pytest.mark.parametrize("options", [{"method": "direct"}, {"method": "fourier"}, {"isotropic": True}])
@pytest.mark.parametrize("border", ["reflect", "valid"])
def test_an_empty_batch_has_empty_derivatives_and_gradients(options, border):
    module = MollifierLayer(orders=[(2, 0), (0, 2)], spacing=1.0, width=4.5, border=border, **options)
    empty = torch.zeros(0, 3, 20, 22, requires_grad=True)
    found = module(empty)
    assert found.shape == (0, *module(torch.zeros(3, 20, 22)).shape)
    (gradient,) = torch.autograd.grad(found.sum(), empty)
    assert gradient.shape == empty.shape


@pytest.mark.parametrize("check_finite", [False, True])
def test_a_tensor_without_values_is_refused(check_finite):
    module = MollifierLayer(orders=[(2, 0)], spacing=1.0, width=4.5, check_finite=check_finite)
    with pytest.raises(FieldError, match="meta"):
        module(torch.zeros(20, 22, device="meta"))


def test_a_learnable_width_without_a_value_is_refused():
    module = MollifierLayer(orders=[(2, 0)], spacing=1.0, width=4.5, learnable_width=True).to("meta")
    with pytest.raises(FieldError, match="learnable width on the meta"):
        module(torch.zeros(20, 22))
    assert "width" in repr(module)


def test_an_array_is_told_from_a_tensor():
    with pytest.raises(FieldError, match="mollified_derivative"):
        check_tensor(np.zeros((20, 22)), 2)
