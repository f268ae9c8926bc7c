"""Objectives as values: presets, differences, needs, state, own parts, and what is refused."""

import pytest
from objective_world import step, world

from burnish.models.needs import Need
from burnish.records import Sampling
from burnish.rl.credit.chain import make_chain
from burnish.rl.objectives import presets
from burnish.rl.objectives.kl import KL
from burnish.rl.objectives.objective import diff
from burnish.runs.config import plain
from burnish.runs.errors import UserError


def test_presets_are_values():
    a = presets.preset("grpo")
    b = a.with_(surrogate={"name": "cispo", "max_ratio": 8.0})
    assert (a.surrogate.name, b.surrogate.name, b.name) == ("ppo_clip", "cispo", "grpo*")
    assert diff(a, presets.preset("grpo")) == []
    assert 'surrogate.name: "ppo_clip" -> "cispo"' in diff(a, b)
    assert "clip(rho, 0.0, 8.0)" in b.describe()
    for name in presets.names():
        again = presets.make(plain(presets.preset(name)))
        assert diff(again, presets.preset(name)) == []
    merged = presets.make({"preset": "rloo", "kl": {"beta": 0.3}})
    assert (merged.kl.estimator, merged.kl.place, merged.kl.beta) == ("k1", "reward", 0.3)


def test_needs_follow_the_knobs():
    names = {name: [need.key for need in presets.preset(name).needs()] for name in presets.names()}
    assert names["dapo"] == names["reinforce"] == []
    assert names["grpo"] == ["reference.logp"]
    assert set(names["rloo"]) == {"reference.logp", "policy.logp"}
    assert "policy.value" in names["ppo"]
    assert presets.preset("grpo").with_(beta=0).needs() == ()
    assert presets.preset("grpo").grad_needs() == (Need(what="entropy"),)
    assert presets.preset("grpo").with_(entropy={"measure": False}).grad_needs() == ()


def test_state_outlives_the_objective():
    w = world(6)
    adaptive = {"adaptive": {"target": 0.01, "horizon": 100.0}, "estimator": "k3", "beta": 0.2}
    objective = presets.preset("reinforce").with_(kl=adaptive)
    step(w, objective)  # for_run gives the same object where nothing is to be filled in
    state = objective.state_dict()
    assert state["beta"] == pytest.approx(0.2 * (1 + 0.2 * 15 / 100))
    assert state["moving"]["policy"] != 0
    other = presets.preset("reinforce").with_(kl=adaptive)
    other.load_state_dict(state)
    assert other.beta == objective.beta
    assert step(w, other)[0] == step(w, objective)[0]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: presets.preset("grpo").for_run(1, 8), ("group_size is 1", "group_mean", "2 or more")),
        (lambda: presets.preset("grpo").with_(kl={"estimator": "k1"}), ("k1", "gradient of zero")),
        (lambda: KL(beta=0.1, estimator="k1"), ("k1", "gradient of zero")),
        (lambda: presets.preset("dapo").for_run(4, 8, Sampling(top_p=0.9)), ("top_p", "another distribution")),
        (lambda: presets.preset("dapo").for_run(4, 8, Sampling(temperature=0)), ("temperature is 0",)),
        (lambda: presets.preset("grpo").for_run(4, 8, models=()), ("reference model", "beta to 0")),
        (lambda: presets.preset("grop"), ("did you mean 'grpo'",)),
        (lambda: presets.preset("grpo").with_(surrogate="log"), ("'log' wants a ratio of level none",)),
        (lambda: presets.preset("grpo").with_(surrogat="log"), ("surrogat", "did you mean 'surrogate'")),
        (lambda: presets.preset("grpo").with_(surrogate={"name": "ppo_clip", "clip_hi": 1}), ("clip_hi", "clip_high")),
        (lambda: make_chain("group_std"), ("must begin with one baseline",)),
        (lambda: make_chain("none >> to_go >> group_std"), ("cancel",)),
        (lambda: make_chain("group_meen"), ("did you mean 'group_mean'",)),
        (lambda: presets.preset("dr_grpo").weights(world().table), ("limit",)),
    ],
)
def test_refusals(build, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are checked below)
        build()
    assert isinstance(caught.value, UserError) or "KL" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_shaping_that_the_credit_cancels_is_refused():
    class Hero:
        name = "hero"
        cancelled_by = ("group_std",)

    presets.preset("dr_grpo").for_run(4, 8, parts=[Hero()])
    with pytest.raises(UserError, match="cancel"):
        presets.preset("grpo").for_run(4, 8, parts=[Hero()])


def test_own_parts_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def double(x):\n    return 2 * x.advantage * x.rho, x.rho > 2\n")
    w = world(7)
    base = presets.preset("dapo").with_(surrogate="linear")
    mine = base.with_(surrogate=f"{path}:double")
    assert step(w, mine)[0] == pytest.approx(2 * step(w, base)[0])
    assert "double" in mine.describe()
