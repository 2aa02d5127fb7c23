"""LIBERO's measures, by hand."""

import pytest

from fla_plugins.continual.scores import scores


def test_three_tasks_by_hand() -> None:
    found = scores([[0.8, 0.1, 0.0], [0.4, 0.6, 0.0], [0.2, 0.5, 0.9]])
    assert found.forward == pytest.approx((0.8 + 0.6 + 0.9) / 3)
    assert found.backward == pytest.approx(((0.4 + 0.6) / 2 + 0.1) / 2)
    assert found.area == pytest.approx(((0.8 + 0.4 + 0.2) / 3 + (0.6 + 0.5) / 2 + 0.9) / 3)
    assert found.final == pytest.approx((0.2 + 0.5 + 0.9) / 3)


def test_one_task_can_lose_nothing() -> None:
    assert scores([[0.5]]).backward is None
