import pytest

from chromamol.errors import ParameterError
from chromamol.nucleus.flags import FLAGS, describe, join, ordered


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
