"""Ranks: one process is left alone, work is cut evenly, values survive the way between processes, signals pass on as one."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from burnish.records import Rollout, Turn
from burnish.rl.micro import shares
from burnish.rl.shared import laid_out
from burnish.runs import ranks, signals, wire
from burnish.runs.errors import UserError


def test_one_process_is_left_alone():
    here = ranks.current()
    value = {"any": object()}
    weight = torch.nn.Parameter(torch.ones(2))
    with ranks.together() as same:
        assert same is here
        assert (here.rank, here.world, here.is_main, here.device) == (0, 1, True, None)
        assert here.gather(value) == [value]
        assert here.broadcast(value) is value
        assert here.largest(3) == 3
        here.sum_gradients([weight])
        here.align(torch.nn.Linear(1, 1))
    assert weight.grad is None
    with pytest.raises(UserError, match="mine"), ranks.together():
        raise UserError("mine")


def test_nothing_distributed_is_imported_for_one_process():
    code = "import sys, burnish.runs.ranks as r; r.start(); print(r.current().world, 'torch' in sys.modules, 'accelerate' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "WORLD_SIZE": "1", "RANK": "0"})
    assert found.stdout.split() == ["1", "False", "False"], found.stderr


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}, (1, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (0, 1)),  # no one to meet
        ({"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}, (0, 1)),
    ],
)
def test_the_launchers_environment(monkeypatch, environment, wanted):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks.launched() == wanted


def test_a_launch_that_started_one_process_only_is_said(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    with pytest.warns(UserWarning, match="--multi_gpu --num_processes"):
        ranks.start()


def test_work_is_cut_into_even_stretches():
    random = np.random.default_rng(0)
    for n in (0, 1, 2, 3, 17, 100):
        for parts in (1, 2, 3, 8):
            costs = random.integers(1, 50, size=n).tolist()
            found = ranks.cut_evenly(costs, parts)
            assert len(found) == parts
            assert [place for part in found for place in part] == list(range(n))
            if n:
                loads = [sum(costs[place] for place in part) for part in found]
                assert max(loads) <= sum(costs) / parts + max(costs)


def test_rollouts_are_dealt_whole_and_prompts_stay_together():
    random = np.random.default_rng(1)
    rollouts, groups = [], []
    for group in range(6):
        for place in range(4):
            size = int(random.integers(1, 9))
            rollouts.append(Rollout(f"p{group}", place, [Turn(list(range(1, 8 + group)), [1] * size, np.zeros(size))]))
            groups.append(group)
    for parts in (1, 2, 3):
        found = shares(rollouts, groups, parts)
        assert sorted(number for part in found for number in part) == list(range(24))
        assert sum(len({groups[number] for number in part}) for part in found) <= 6 + parts - 1
    assert [len(part) for part in shares(rollouts[:1], groups[:1], 2)] in ([0, 1], [1, 0])


def test_shares_measured_apart_lie_as_if_measured_together():
    sizes = [3, 1, 2, 4]
    values = torch.arange(10.0)
    pieces = torch.split(values, sizes)
    parts = [[1, 3], [], [0, 2]]
    found = [{"logp": torch.cat([pieces[n] for n in part]), "sum": [float(pieces[n].sum()) for n in part]} if part else {}
             for part in parts]  # fmt: skip
    out = laid_out(found, parts, sizes)
    assert torch.equal(out["logp"], values)
    assert out["sum"] == [float(piece.sum()) for piece in pieces]


def test_values_survive_the_way():
    value = {"a": [1, 0.1, None, "ä", True], "t": torch.randn(3).bfloat16(), "n": np.arange(2), "x": (float("nan"), float("inf"))}
    found = wire.unpack(wire.pack(value))
    assert found["a"] == value["a"]
    assert torch.equal(found["t"], value["t"])
    assert found["n"].tolist() == [0, 1]
    assert str(found["x"]) == "(nan, inf)"


def test_a_digest_knows_names_shapes_and_bits():
    one = {"w": torch.zeros(4)}
    other = [{"v": torch.zeros(4)}, {"w": torch.zeros(2, 2)}, {"w": torch.tensor([0.0, 0, 0, -0.0])}, {"w": torch.zeros(4).double()}]
    assert wire.digest(one) == wire.digest({"w": torch.zeros(4)})
    assert len({wire.digest(value) for value in [one, *other]}) == 5


def test_an_echo_of_a_signal_is_no_second_one(monkeypatch):
    with signals.StopSignals(launched=True) as caught:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught.received == signal.SIGINT
        monkeypatch.setattr(signals, "ECHO", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    with signals.StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
