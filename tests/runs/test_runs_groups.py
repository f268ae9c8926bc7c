from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from burnish.runs import schedules
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.groupset import MAX_SKIPPED, GroupSet
from burnish.runs.loop import Loop, ParamGroup


def _sgd(value: float = 1.0, lr: float = 1.0, dtype: torch.dtype = torch.float32, **options: object) -> tuple[nn.Parameter, ParamGroup]:
    p = nn.Parameter(torch.tensor([value, value], dtype=dtype))
    return p, ParamGroup([p], torch.optim.SGD([p], lr=lr), **options)  # type: ignore[arg-type]


def test_move_clips_schedules_and_averages_by_hand() -> None:
    p, group = _sgd(max_grad_norm=1.0, schedule=lambda k: 1 / (k + 1), average=0.75)
    groups = GroupSet({"policy": group})
    p.grad = torch.tensor([3.0, 4.0])
    assert groups.move() == {"grad_norm": 5.0, "learning_rate": 1.0}
    assert p.tolist() == pytest.approx([0.4, 0.2])
    assert p.grad is None
    assert group.averages is not None
    assert group.averages["0"].tolist() == pytest.approx([0.85, 0.8])
    p.grad = torch.tensor([0.3, 0.4])
    assert groups.move()["learning_rate"] == 0.5
    assert p.tolist() == pytest.approx([0.25, 0.0], abs=1e-6)
    with groups.averaged():
        assert p.tolist() == pytest.approx([0.7, 0.6])
    assert p.tolist() == pytest.approx([0.25, 0.0], abs=1e-6)


def test_average_of_half_precision_is_kept_in_float32() -> None:
    p, group = _sgd(dtype=torch.bfloat16, lr=1e-2, average=0.999)
    before = group.averages["0"].clone()
    p.grad = torch.ones_like(p)
    group.move()
    assert group.averages["0"].dtype == torch.float32
    assert not torch.equal(group.averages["0"], before)


def test_gradients_that_are_not_finite_move_nothing_and_are_counted() -> None:
    p, group = _sgd()
    groups = GroupSet({"policy": group})
    assert groups.move() == {"grad_norm": 0.0, "learning_rate": 1.0, "skipped_moves": 1.0}
    for _ in range(MAX_SKIPPED - 1):
        p.grad = torch.tensor([float("nan"), 1.0])
        assert groups.move()["skipped_moves"] == 1.0
    assert p.tolist() == [1.0, 1.0]
    assert group.moves == 0
    p.grad = torch.tensor([float("inf"), 1.0])
    with pytest.raises(UserError, match="not finite in 10 moves"):
        groups.move()


def test_only_the_named_move_and_all_gradients_are_forgotten() -> None:
    (p, a), (q, b) = _sgd(), _sgd()
    groups = GroupSet({"a": a, "b": b})
    p.grad = q.grad = torch.ones(2)
    assert set(groups.move({"b"})) == {"grad_norm/b", "learning_rate/b"}
    assert (p.tolist(), q.tolist(), p.grad, q.grad) == ([1.0, 1.0], [0.0, 0.0], None, None)
    with pytest.raises(ValueError, match="no parameter group 'c'"):
        groups.move({"c"})


def test_snapshot_restores_weights_optimiser_and_average_again_and_again() -> None:
    model = nn.Linear(3, 2)
    group = ParamGroup(model, torch.optim.Adam(model.parameters(), lr=0.1), average=0.9)
    groups = GroupSet({"policy": group})

    def move() -> None:
        model(torch.ones(1, 3)).pow(2).sum().backward()
        groups.move()

    def looks() -> list[torch.Tensor]:
        state = [value for entry in group.optimizer.state.values() for value in entry.values()]
        return [p.detach().clone() for p in group.params] + [v.clone() for v in group.averages.values()] + [v.clone() for v in state]

    move()
    groups.snapshot("start")
    at_start = looks()
    move()
    after_one = looks()
    for _ in range(2):
        move()
        groups.reset("start")
        assert all(torch.equal(a, b) for a, b in zip(looks(), at_start))
        move()
        assert all(torch.equal(a, b) for a, b in zip(looks(), after_one))
    with pytest.raises(ValueError, match="did you mean 'start'"):
        groups.reset("strat")


class _Wide(torch.optim.Optimizer):
    """Keeps a float32 sum for parameters in half precision, as memory-saving optimisers do."""

    def __init__(self, params: list[nn.Parameter]):
        super().__init__(params, {"lr": 1.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for p in self.param_groups[0]["params"]:
            total = self.state[p].setdefault("sum", torch.zeros_like(p, dtype=torch.float32))
            total += p.grad.float() / 3


def test_optimiser_state_keeps_its_own_dtype() -> None:
    p = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    group = ParamGroup([p], _Wide([p]))
    groups = GroupSet({"policy": group})
    p.grad = torch.ones_like(p)
    groups.move()
    groups.snapshot("one")
    groups.reset("one")
    assert group.optimizer.state[p]["sum"].dtype == torch.float32
    assert group.optimizer.state[p]["sum"].tolist() == [torch.tensor(1 / 3).item()] * 2


def test_tied_weights_stay_tied_and_mismatches_are_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    group = ParamGroup(model, torch.optim.Adam(model.parameters()))
    group.load_state_dict(group.state_dict())
    assert model[0].weight is model[1].weight
    p, other = _sgd()
    with pytest.raises(UserError, match="other parameters"):
        group.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="lacks 1 parameters"):
        ParamGroup([p, nn.Parameter(torch.ones(1))], torch.optim.SGD([p], lr=1))
    with pytest.raises(ValueError, match="not in its group"):
        ParamGroup([], torch.optim.SGD([p], lr=1))
    with pytest.raises(ValueError, match="in two groups"):
        GroupSet({"a": other, "b": other})


def test_order_of_the_optimisers_torch_groups_is_kept() -> None:
    model = nn.Linear(2, 2)
    torch_groups = [{"params": [model.bias], "weight_decay": 0.0}, {"params": [model.weight], "lr": 0.5}]
    group = ParamGroup(model, torch.optim.AdamW(torch_groups, lr=0.1), schedule=lambda k: 0.5)
    assert group.order == ["bias", "weight"]
    model(torch.ones(1, 2)).sum().backward()
    group.move()
    assert [entry["lr"] for entry in group.optimizer.param_groups] == [0.05, 0.25]
    swapped = ParamGroup(model, torch.optim.AdamW(model.parameters()))
    with pytest.raises(UserError, match="order"):
        swapped.load_state_dict(group.state_dict())


def test_waiting_gradients_and_unfinished_settings(tmp_path: Path) -> None:
    """A step may leave gradients for a later move; a checkpoint between the two carries them."""
    results = []
    for name, kill in (("a", False), ("b", True)):
        for resume in (False, True)[: 1 + kill]:
            p, group = _sgd()
            run = Run.create(tmp_path / name, {}, resume=resume)
            stop = iter([kill and not resume] * 1 + [False] * 9)
            loop = Loop(run, {"p": group}, total_steps=4, save_steps=1, stop_check=lambda stop=stop: next(stop))

            def step_fn(step: int, mover: object, p: nn.Parameter = p) -> dict[str, float]:
                (p * step).sum().backward()
                return mover() if step % 2 == 0 else {}  # type: ignore[operator]

            loop.run(step_fn)
        results.append(p.tolist())
    assert results[0] == results[1] == [1.0 - 10, 1.0 - 10]
    run = Run.create(tmp_path / "c", {})
    wrong = {"total_steps is 0": {"total_steps": 0}, "needs an evaluation": {"metric_for_best": "x"}, "patience": {"patience": 1}}
    for message, options in wrong.items():
        with pytest.raises(UserError, match=message):
            Loop(run, {"p": group}, **{"total_steps": 1, **options})
    loop = Loop(run, {"p": group}, total_steps=1, eval_fn=lambda s: {"reward": 1.0}, eval_steps=1, metric_for_best="rewrd")
    with pytest.raises(UserError, match="did you mean 'reward'"):
        loop.run(lambda step, mover: {})


def test_schedules() -> None:
    assert [schedules.make("linear", 4)(k) for k in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert [schedules.make("constant", 10, warmup=0.2)(k) for k in range(4)] == [1 / 3, 2 / 3, 1.0, 1.0]
    cosine = schedules.make("cosine", 10, minimum=0.1)
    assert (cosine(0), cosine(5), cosine(10), cosine(99)) == pytest.approx((1.0, 0.55, 0.1, 0.1))
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        schedules.make("cosin")
