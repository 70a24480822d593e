"""The names that users type: there, with the promised parameters, and nothing heavy loaded for them."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import chromamol as cm
from chromamol.nucleus.flags import FLAGS

PACKAGE = Path(cm.__file__).parent

PROMISED = {
    "infer": ["paths", "output", "settings"],
    "infer_rates": [
        "phi_h", "phi_e", "total", "pixel_size_um", "parameters", "mask", "known_acetylation_per_um2",
        "noise_sd", "psf_sigma_um", "method", "device", "seed",
    ],
    "ChromatinParameters": ["phi_max", "interface_length_um", "adhesion"],
    "split_chromatin": ["total", "pixel_size_um", "parameters"],
    "simulate_chromatin": [
        "methylation_per_um2", "acetylation_per_um2", "pixel_size_um", "parameters", "mask", "water_fraction", "seed",
    ],
    "MollifierLayer": ["orders", "spacing", "width", "kernel"],
    "mollified_derivative": ["field", "order", "spacing", "width", "kernel"],
    "InverseProblem": ["spacing", "mask"],
    "read_image": ["path"],
    "segment_nuclei": ["image", "pixel_size_um"],
    "Settings": ["pixel_size_um"],
}  # fmt: skip

DEFAULTS = {
    "infer_rates": {"mask": None, "known_acetylation_per_um2": None, "noise_sd": None, "psf_sigma_um": 0.0,
                    "method": "auto", "device": "auto", "seed": 0},
    "ChromatinParameters": {"phi_max": 0.7, "adhesion": 0.0},
    "simulate_chromatin": {"mask": None, "water_fraction": 0.5, "seed": 0},
    "MollifierLayer": {"kernel": "polynomial"},
    "mollified_derivative": {"kernel": "polynomial"},
}  # fmt: skip


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_name_takes_the_promised_parameters(name):
    parameters = inspect.signature(getattr(cm, name)).parameters
    assert set(PROMISED[name]) <= set(parameters)
    for parameter, default in DEFAULTS.get(name, {}).items():
        assert parameters[parameter].default == default


@pytest.mark.parametrize("name", [n for n in PROMISED if n not in ("ChromatinParameters", "Settings")])
def test_all_but_the_data_is_keyword_only(name):
    """A call with swapped lengths must fail, not compute."""
    kinds = {p.name: p.kind for p in inspect.signature(getattr(cm, name)).parameters.values()}
    assert kinds.get("pixel_size_um", inspect.Parameter.KEYWORD_ONLY) is inspect.Parameter.KEYWORD_ONLY
    assert sum(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds.values()) <= 2


def test_every_name_of_the_package_resolves():
    for name in cm.__all__:
        assert getattr(cm, name) is not None
    assert callable(cm.datasets.fetch)
    assert set(PROMISED) <= set(dir(cm))


def test_importing_the_package_loads_nothing_heavy():
    code = "import chromamol, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "pandas", "matplotlib", "tifffile", "typer", "skimage", "scipy", "numpy"} & set(
        loaded
    )


def test_the_command_line_is_described_without_loading_anything_heavy():
    code = "import chromamol.cli, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "typer" in loaded
    assert not {"torch", "pandas", "matplotlib", "tifffile", "skimage", "scipy", "numpy", "rich"} & set(
        loaded
    )


def _raised_flags(source: Path) -> set[str]:
    """Return text constants that a module appends to `flags`, or puts into a literal that is named so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        texts: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("append", "add") and "flags" in ast.unparse(node.func.value):
                texts = node.args
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.keyword)):
            target = node.arg if isinstance(node, ast.keyword) else ast.unparse(
                node.targets[0] if isinstance(node, ast.Assign) else node.target
            )  # fmt: skip
            if target and ("flags" in target or target == "extra") and node.value is not None:
                texts = [node.value]
        for text in texts:
            found |= {
                n.value for n in ast.walk(text) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            }
    # A leading underscore is the tail of an f-string, whose whole name is not in the source.
    return {text for text in found if text.isidentifier() and not text.startswith("_")}


def test_flags_that_the_code_raises_are_in_the_registry():
    # Flags of `InverseProblem` are of equations, not of nuclei.
    modules = set(PACKAGE.rglob("*.py")) - set(PACKAGE.glob("inverse/generic/*.py"))
    raised = set().union(*map(_raised_flags, modules))
    assert {"unresolved_domains", "split_constant_assumed", "calibration_assumed", "touches_border"} <= raised
    assert raised <= set(FLAGS)
    assert {f"{rate}_not_identifiable" for rate in ("methylation", "acetylation")} <= set(FLAGS)
