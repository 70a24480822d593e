import ast
from pathlib import Path

import pytest

import chromamol
from chromamol.errors import ParameterError
from chromamol.nucleus.flags import FLAGS, describe, join, ordered
from chromamol.report.overview import NO_MAP
from chromamol.report.summary import AGAINST_RATIO

PACKAGE = Path(chromamol.__file__).parent


def _names_given(source: str) -> set[str]:
    """String constants, but for those of comparisons and of a module's own lists: there a flag is read, not raised."""
    tree = ast.parse(source)
    readers = [c for c in ast.walk(tree) if isinstance(c, ast.Compare)]
    readers += [s for s in tree.body if isinstance(s, ast.Assign | ast.AnnAssign)]
    read = {id(n) for reader in readers for n in ast.walk(reader)}
    return {n.value for n in ast.walk(tree)
            if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in read}  # fmt: skip


def test_every_flag_is_raised_somewhere():
    paths = [
        p
        for p in PACKAGE.rglob("*.py")
        if p.name != "flags.py" and "report" not in p.relative_to(PACKAGE).parts
    ]
    sources = [path.read_text(encoding="utf-8") for path in paths]
    given = set.union(*(_names_given(text) for text in sources if any(name in text for name in FLAGS)))
    assert set(FLAGS) - given == set()


def test_the_report_explains_missing_maps_by_flags_that_exist():
    assert set(NO_MAP) <= set(FLAGS)


def test_the_report_counts_flags_that_exist_against_a_ratio():
    assert set(FLAGS) >= AGAINST_RATIO


def test_every_flag_has_a_one_line_description():
    for name in FLAGS:
        text = describe(name)
        assert text.endswith(".")
        assert "\n" not in text
        assert name.islower()
        assert ";" not in name


def test_join_is_deterministic_whatever_the_order_and_repeats():
    assert join(["saturated", "touches_border"]) == join(["touches_border", "saturated", "saturated"])
    assert join([]) == ""


def test_join_and_ordered_agree():
    names = list(reversed(FLAGS))
    assert tuple(join(names).split(";")) == ordered(names) == tuple(FLAGS)


@pytest.mark.parametrize("call", [lambda: join(["touches_boarder"]), lambda: describe("")])
def test_unknown_flag_is_refused_with_the_known_ones(call):
    with pytest.raises(ParameterError, match="touches_border"):
        call()
