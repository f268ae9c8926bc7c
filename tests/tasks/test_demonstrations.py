"""The careless teacher."""

import pytest

from burnish.tasks.demonstrations import careless
from burnish.tasks.sort import Sort


def test_a_known_share_slips_by_one_swap():
    task = Sort(length=8)
    problems = task.items(2000, 0)
    shown = careless(problems, 0.7, seed=1)
    assert shown == careless(problems, 0.7, seed=1)
    assert shown[50:60] == careless(problems[50:60], 0.7, seed=1)
    assert shown != careless(problems, 0.7, seed=2)
    assert all(sorted(a.answer) == list(b.answer) and (a.id, a.prompt) == (b.id, b.prompt) for a, b in zip(shown, problems))
    wrong = [sum(x != y for x, y in zip(a.answer, b.answer)) for a, b in zip(shown, problems) if a.answer != b.answer]
    assert set(wrong) == {2}
    assert 0.55 < len(wrong) / 2000 < 0.65  # 0.7, less the swaps of equal letters (15 in 100)
    assert careless(problems, 0.0) == problems
    with pytest.raises(ValueError, match=r"slips is 1\.5"):
        careless(problems, 1.5)
