"""Objectives as values: presets, differences, needs, state, own parts, and what is refused."""

import pytest
from matplotlib.mathtext import MathTextParser
from objective_world import step, world

from burnish.models.needs import Need
from burnish.records import Sampling
from burnish.rl.credit.chain import make_chain
from burnish.rl.measure import models_of
from burnish.rl.objectives import listing, presets
from burnish.rl.objectives.checks import check_updates
from burnish.rl.objectives.kl import KL
from burnish.rl.objectives.objective import diff
from burnish.runs import parts
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
    assert "critic.value" in names["ppo"]
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


def test_eta_follows_its_target():
    w = world(8)
    adaptive = {"eta": 0.01, "adaptive": {"target": 2.0, "step": 0.004}}
    objective = presets.preset("dapo").with_(entropy=adaptive)
    entropy = step(w, presets.preset("dapo"))[2]["entropy"]
    assert entropy < 2.0
    used, losses = [], []
    for _ in range(3):
        loss, _, metrics = step(w, objective)
        used.append(metrics["entropy/eta"])
        losses.append(loss)
    assert used == pytest.approx([0.01, 0.014, 0.018])
    assert losses[0] == pytest.approx(step(w, presets.preset("dapo").with_(entropy={"eta": 0.01}))[0])
    again = presets.preset("dapo").with_(entropy=adaptive)
    again.load_state_dict(objective.state_dict())
    assert again.eta == objective.eta == pytest.approx(0.022)
    high = presets.preset("dapo").with_(entropy={"eta": 0.01, "adaptive": {"target": entropy / 2, "step": 0.004}})
    assert [step(w, high)[2]["entropy/eta"] for _ in range(2)] == [0.01, 0.0], "nothing while the entropy is above the target"
    assert high.state_dict()["eta"] == pytest.approx(0.002)
    assert presets.preset("dapo").with_(entropy={"measure": False, "adaptive": {}}).grad_needs() == (Need(what="entropy"),)


def test_a_credit_with_a_loss_of_its_own_says_what_it_needs():
    ppo = presets.preset("ppo")
    assert [need.key for need in ppo.grad_needs()] == ["policy.entropy", "critic.value"]
    with_full = presets.preset("grpo").with_(kl={"estimator": "full"})
    assert with_full.needs() == ()
    assert models_of(with_full.grad_needs()) == {"policy", "reference"}


# --- what is told of them -------------------------------------------------------------------------------------------------------------
def variants():
    """Every preset, and every value of every knob."""
    yield from (presets.preset(name) for name in presets.names())
    base = presets.preset("grpo")
    for knob, package in listing.ROOMS.items():
        for name in parts.names(package):
            kind = getattr(parts.find(package, name), "kind", "baseline")
            if knob == "credit":
                yield base.with_(credit=name if kind == "baseline" else ["none", name])
            elif knob in ("correction", "weights"):
                yield base.with_(**{knob: name})
    for name in ("token", "sequence", "sequence_token"):
        yield base.with_(ratio={"name": name, "against": "sampler"})
    for name in ("linear", "soft_gate", "prob_mask", "clip_cov", "kl_cov", {"name": "ppo_clip", "dual": 3.0, "delta": 4.0}):
        yield base.with_(surrogate=name)
    for knobs in ({"level": "sequence", "reduce": "sum", "factor": "token"}, {"level": "sequence"}, {"factor": "one"}):
        yield base.with_(correction=[{"name": "mask", **knobs}, "drop_stale_negative"])
    for knobs in (
        {"estimator": "full"},
        {"estimator": "k3+", "times_rho": True},
        {"place": "advantage"},
        {"place": "reward"},
        {"estimator": "abs"},
    ):
        yield base.with_(kl=knobs)
    for knobs in ({"form": "marginal"}, {"by_std": True}):
        yield base.with_(credit={"name": "pass_at_k", **knobs})
    yield base.with_(credit={"name": "critic", "length_alpha": 0.05, "value_lam": 1.0, "value_clip": None})
    yield base.with_(entropy={"eta": 0.01})
    yield base.with_(entropy={"adaptive": {}})


def test_every_formula_parses_as_latex():
    parser = MathTextParser("agg")
    count = 0
    for objective in variants():
        text = objective.describe()
        assert "{" not in text.replace("'", "")
        assert "True" not in text
        assert "False" not in text
        for line in objective.describe(latex=True).splitlines():
            assert line.startswith("$")
            assert "<" not in line.replace(" < ", ""), line
            parser.parse(line)
            count += 1
    assert count > 250


def test_the_formula_told_is_the_one_in_use():
    """Only terms in use, with the numbers in use."""
    dapo = presets.preset("dapo")
    assert "loss = sum_it w_it [-S];" in dapo.describe()
    assert "1 + 0.28" in dapo.describe()
    assert r"1 + 0.28" in dapo.describe(latex=True)
    assert "K" not in dapo.describe(latex=True)
    full = dapo.with_(kl={"beta": 1e-3, "estimator": "k2"}, correction={"name": "truncate", "cap": 3.0}, entropy={"eta": 0.02})
    assert "loss = sum_it w_it [-S c + 0.001 K - 0.02 H];" in full.describe()
    latex = full.describe(latex=True).splitlines()
    assert latex[0] == r"$\mathcal{L} = \sum_{i,t} w_{it} \left[ -S_{it}\, c_{it} + 0.001\, K_{it} - 0.02\, H_{it} \right]$"
    assert r"$c = \min(\exp(l_o - l_b),\, 3)$" in latex
    assert r"$K = \frac{1}{2} d^2, \quad d = l - l_{\mathrm{ref}}$" in latex
    assert r"0.05\, d" in presets.preset("rloo").describe(latex=True)
    assert r"+ 10^{-6}" in presets.preset("grpo").describe(latex=True)
    assert r"1 - 3 \cdot 10^{-4}" in presets.preset("gspo").describe(latex=True)


def test_every_row_of_the_catalogue_is_there():
    found = {(row["knob"].split()[0], row["value"]) for row in listing.knob_rows()}
    wanted = {
        "credit": "none moving group_mean leave_one_out length_weighted greedy critic pass_at_k group_std batch_std by_group_mean "
        "batch_whiten constant to_go marked entropy_shaped top_entropy",
        "ratio": "token sequence sequence_token geometric none",
        "surrogate": "linear log ppo_clip cispo gmpo soft_gate prob_mask clip_cov kl_cov",
        "correction": "truncate mask drop_stale_negative",
        "kl": "k1 k2 k3 k3+ abs full place times_rho adaptive.target adaptive.horizon",
        "entropy": "eta adaptive.target",
        "weights": "token_mean prompt_mean sequence_mean sequence_sum",
    }
    assert {(knob, value) for knob, values in wanted.items() for value in values.split()} <= found
    assert len(listing.preset_rows()) == len(presets.names()) == 13


# --- refusals -------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: presets.preset("grpo").for_run(1, 8), ("group_size is 1", "group_mean", "2 or more")),
        (lambda: presets.preset("grpo").with_(kl={"estimator": "k1"}), ("k1", "gradient of zero")),
        (lambda: KL(beta=0.1, estimator="k1"), ("k1", "gradient of zero")),
        (lambda: presets.preset("grpo").with_(kl={"estimator": "full", "gradient": "k2"}), ("full KL", "choose k3")),
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


@pytest.mark.parametrize("name", ["rloo", "reinforce"])
def test_an_objective_without_a_ratio_is_refused_off_policy(name):
    objective, corrected = presets.preset(name), presets.preset(name).with_(correction="truncate")
    check_updates(objective, 1, 1, 0)
    check_updates(corrected, 1, 1, 8)
    check_updates(presets.preset(name).with_(correction="mask"), lag=8)
    for changed, settings, words in [
        (objective, {"minibatches": 2}, "rl.minibatches 2 x rl.epochs 1 are 2 updates"),
        (objective, {"epochs": 4}, "set both to 1"),
        (corrected, {"epochs": 2}, "set both to 1"),
        (objective, {"lag": 1}, f"preset: {name}, correction: truncate"),
        (presets.preset(name).with_(correction="drop_stale_negative"), {"lag": 1}, "set rl.lag to 0"),
    ]:
        with pytest.raises(UserError, match=name) as caught:
            check_updates(changed, **settings)
        assert words in str(caught.value)


@pytest.mark.parametrize("name", [name for name in presets.names() if name not in ("rloo", "reinforce")])
def test_objectives_with_a_ratio_may_be_off_policy(name):
    check_updates(presets.preset(name), 4, 2, 8)
    with pytest.raises(UserError, match="has no ratio"):
        check_updates(presets.preset(name).with_(ratio="none", surrogate="log"), 1, 1, 8)


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
