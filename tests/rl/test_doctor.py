"""The doctor on written run folders: each fault is named, healthy runs of many kinds are not, and no damaged file stops it."""

import json
import sys
import types

import numpy as np
import pytest
from doctor_world import LIMIT, SIZE, Written, record

from burnish.rl.doctor.examine import examine
from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.runs.errors import UserError


def found(run: Written, tmp_path):
    return examine(run.write(tmp_path / "run"))


def names(diagnosis) -> list[str]:
    return [finding.id for finding in diagnosis.alarms]


# --- faults, one function each: it spoils a healthy run


def uniform_groups(run):
    for groups in run.groups.values():
        for place, group in enumerate(groups):
            for score in group["scores"]:
                score["reward"] = score["success"] = float(place % 2)
    run.again()


def every_reward_equal(run):
    for step in run.groups:
        run.groups[step] = [run.group(step, place, 0.0) for place in range(4)]
    run.again()


def completions_cut(run):
    for step in run.groups:
        run.groups[step] = [record(f"i{step}", "abcdefghijklmnop", ["abcdefghijkl"] * 4 + ["abcdefghijkm"] * 4, [0.0, 1.0] * 4, "length")]
    run.start["references"]["tokens"] = {"0": 14, "50": 16, "90": 18, "100": 20}
    run.again()


def eos_not_learned(run):
    for step in run.groups:
        texts = ["".join(run.random.choice(list("abcdef"), LIMIT)) for _ in range(SIZE)]
        run.groups[step] = [record(f"i{step}", "abcd", texts, [0.0, 1.0] * 4, "length")]
    run.again()


def ends_by_chance_only(run):
    """Short references, and what ends does so by accident after a long ramble."""
    eos_not_learned(run)
    for step in run.groups:
        texts = ["".join(run.random.choice(list("abcdef"), LIMIT - 1)) for _ in range(SIZE)]
        run.groups[step].append(record(f"j{step}", "abcd", texts, [0.0, 1.0] * 4))
    run.again()


def generation_prompt(run):
    run.start["template"] = {"generation": "", "header": "<|im_start|>assistant\n"}


def logprob_temperature(run):
    run.each(sampling__sampling_logp_difference__mean=0.06, sampling__sampling_logp_difference__slope=lambda step: 0.9 + 0.005 * (step % 3))


def drawn_colder(run):
    run.each(sampling__surprise=lambda step: 0.8 * run.rows[step - 1]["entropy"])


def logprob_gap(run):
    run.each(sampling__sampling_logp_difference__mean=0.06, sampling__sampling_logp_difference__slope=lambda step: 1 + 0.1 * (-1) ** step)


def learning_rate(run):
    run.each(update__kl=lambda step: 0.5 / step, success=lambda step: 0.4 + 0.01 * (-1) ** step)


def learning_rate_far_too_high(run):
    run.each(update__kl=lambda step: 1.5 / step)


def entropy_collapse(run):
    run.each(entropy=lambda step: max(0.01, 0.6 * 0.7**step), sampling__surprise=lambda step: max(0.01, 0.6 * 0.7**step))
    for step in range(6, 25):
        run.groups[step] = [
            record(f"i{step}{n}", "abcd", ["abcf" if n % 2 else "abcd"] * SIZE, [float(n % 2 == 0)] * SIZE) for n in range(4)
        ]
    run.rows = [run.row(row["step"]) | {key: row[key] for key in ("entropy", "sampling/surprise")} for row in run.rows]


def length_hack(run):
    run.groups = {}
    noise = run.random.normal(0, 0.02, 100)
    run.each(
        reward=lambda step: 0.5 + 0.05 * step + noise[step],
        success=lambda step: 0.6 - 0.02 * step + noise[step + 30],
        completions__mean_length=lambda step: 5 + 0.2 * step + noise[step + 60],
    )


def length_pays_where_nothing_is_right(run):
    for step in run.groups:
        run.groups[step] = [run.group(step, place, 0.0) for place in range(3)]
        size = 4 + step // 3
        texts = ["".join(run.random.choice(list("abcdef"), int(n))) for n in run.random.integers(size - 2, size + 3, SIZE)]
        run.groups[step].append(record(f"l{step}", "wxyz", texts, [0.05 * len(text) for text in texts]))
    run.again()
    run.each(reward=lambda step: 0.2 + 0.02 * step, completions__mean_length=lambda step: 5 + step / 4, success=0.0)


def ends_are_lost(run):
    run.each(update__kl=lambda step: 0.3 / step, completions__clipped_ratio=lambda step: 0.0 if step < 5 else 0.8)


def broken_verifier(run):
    for _step, groups in run.groups.items():
        groups[0]["scores"] = [score | {"invalid": True, "extras": {"reason": "timeout"}} for score in groups[0]["scores"]]
    run.again()
    for row in run.rows:
        row["num_tokens_step"] -= sum(len(one["turns"][0]["output_ids"]) for one in run.groups[row["step"]][0]["rollouts"])


def denying_verifier(run):
    for groups in run.groups.values():
        for score in groups[0]["scores"]:
            score["reward"] = score["success"] = 0.0
    run.again()


def unsteady_verifier(run):
    for step in run.groups:
        run.groups[step] = [record(f"i{step}{n}", "wxyz", ["abcf"] * 4 + ["abce"] * 4, [0.0, 1.0] * 4) for n in range(3)]
    run.again()


def eval_in_train(run):
    run.start["prompts"] |= {"shared": 3, "examples": ["dcba>"]}


FAULTS = [
    (uniform_groups, "uniform_groups", "--check"),
    (every_reward_equal, "uniform_groups", "--check"),
    (completions_cut, "completions_cut", "rl.max_new_tokens"),
    (eos_not_learned, "eos_not_learned", "stage sft"),
    (ends_by_chance_only, "eos_not_learned", "stage sft"),
    (generation_prompt, "generation_prompt", "add_generation_prompt"),
    (logprob_temperature, "logprob_temperature", "sampling.temperature"),
    (drawn_colder, "logprob_temperature", "turn.sampling"),
    (logprob_gap, "logprob_gap", "rl.engine_mode"),
    (learning_rate, "learning_rate", "rl.learning_rate"),
    (learning_rate_far_too_high, "learning_rate", "rl.learning_rate"),
    (entropy_collapse, "entropy_collapse", "entropy"),
    (length_hack, "length_hack", "rl.rewards"),
    (ends_are_lost, "learning_rate", "rl.learning_rate"),
    (broken_verifier, "verifier_fails", "verifier"),
    (denying_verifier, "verifier_fails", "verifier"),
    (unsteady_verifier, "verifier_fails", "verifier"),
    (eval_in_train, "eval_in_train", "eval.path"),
]


@pytest.mark.parametrize(("spoil", "name", "remedy"), FAULTS, ids=[spoil.__name__ for spoil, _, _ in FAULTS])
def test_each_fault_is_named_with_evidence_and_remedy(spoil, name, remedy, tmp_path):
    run = Written()
    spoil(run)
    diagnosis = found(run, tmp_path)
    assert names(diagnosis)[0] == name, diagnosis.to_dict()
    finding = diagnosis.alarms[0]
    assert finding.evidence
    assert remedy in finding.remedy
    assert diagnosis.verdict == "faulty"


def test_length_that_pays_where_nothing_is_right_is_a_warning(tmp_path):
    run = Written()
    length_pays_where_nothing_is_right(run)
    diagnosis = found(run, tmp_path)
    assert [(finding.id, finding.severity) for finding in diagnosis.alarms] == [("length_hack", "warning")]
    run.config["rl"]["shapers"] = [{"name": "overlong"}]
    assert not found(run, tmp_path).alarms, "the run is meant to pay for length"


def sft_rate(run):
    run.each(loss=lambda step: 0.5 if step == 1 else 2.0, update__loss_change=lambda step: 0.4 if step < 8 else -0.1)


def sft_ends(run):
    run.start["ends"] |= {"share": 0.5, "without": ["data:3"]}


def sft_cut(run):
    run.data["train"]["notes"]["truncated"] = 40


SFT = [(sft_rate, "learning_rate"), (sft_ends, "eos_not_learned"), (sft_cut, "completions_cut"), (eval_in_train, "eval_in_train")]


@pytest.mark.parametrize(("spoil", "name"), [*SFT, (generation_prompt, "generation_prompt")])
def test_faults_of_fine_tuning(spoil, name, tmp_path):
    run = Written("sft")
    spoil(run)
    diagnosis = found(run, tmp_path)
    assert names(diagnosis)[:1] == [name]
    assert diagnosis.verdict == "faulty"


# --- without rollouts, and success that falls


def nothing_to_compare(run):
    """Every reward 0 in every step, and no rollouts kept."""
    run.each(reward=0.0, success=0.0, reward_std=0.0, frac_reward_zero_std=1.0, grad_norm=0.0)
    run.groups = {}


@pytest.mark.parametrize("hidden", [(), ("frac_reward_zero_std",), ("frac_reward_zero_std", "reward_std"), ("success",)])
def test_uniform_rewards_are_seen_without_rollouts(hidden, tmp_path):
    run = Written(steps=25)
    nothing_to_compare(run)
    run.rows = [{key: value for key, value in row.items() if key not in hidden} for row in run.rows]
    diagnosis = found(run, tmp_path)
    assert names(diagnosis) == ["uniform_groups"], diagnosis.to_dict()
    assert diagnosis.verdict == "faulty"
    assert "25" in diagnosis.alarms[0].evidence[0]


def test_without_rollouts_other_groups_are_told_apart(tmp_path):
    run = Written()
    run.groups = {}
    assert found(run, tmp_path / "a").verdict == "healthy"
    run.each(frac_reward_zero_std=0.95, success=0.4)
    few = found(run, tmp_path / "b")
    assert [(one.id, one.severity) for one in few.alarms] == [("uniform_groups", "warning")], "chance would make 0.4^8 + 0.6^8"
    run.each(success=0.01, reward=0.01)
    assert [(one.id, one.severity) for one in found(run, tmp_path / "c").findings] == [("few_comparisons", "note")]
    run.each(success=1.0, reward=1.0, frac_reward_zero_std=1.0)
    assert [(one.id, one.severity) for one in found(run, tmp_path / "d").findings] == [("saturated", "note")]


@pytest.mark.parametrize(
    ("stage", "missing", "check"),
    [
        ("rl", ("frac_reward_zero_std", "reward_std"), "groups"),
        ("rl", ("update/kl",), "steps"),
        ("rl", ("sampling/sampling_logp_difference/mean",), "sampler"),
        ("sft", ("loss",), "steps"),
        ("sft", ("ends",), "limits"),
    ],
)
def test_healthy_needs_the_core_checks_to_have_judged(stage, missing, check, tmp_path):
    run = Written(stage)
    run.groups = {}
    run.start.pop("ends" if "ends" in missing else "", None)
    run.rows = [{key: value for key, value in row.items() if key not in missing} for row in run.rows]
    diagnosis = found(run, tmp_path)
    assert not diagnosis.alarms
    assert diagnosis.verdict == "not enough to tell"
    assert diagnosis.untold == [check]


def success_down(run, to=0.07, scatter=0.03):
    """Reward without a trend, success from 0.195 down to `to`."""
    noise = run.random.normal(0, scatter, (2, 100))
    run.groups = {}
    run.each(reward=lambda step: 0.5 + noise[0, step], success=lambda step: 0.195 - (0.195 - to) * min(1, step / 15) + noise[1, step])


def evaluated(run, path, first, last, n=60, samples=4):
    """The folder with two evaluations on the same n prompts."""
    from burnish.tasks.eval_steps import StepSuccesses, write_successes

    folder = run.write(path)
    level = np.clip(run.random.normal(0, 0.2, n), -0.3, 0.3)
    for step, rate in ((0, first), (run.steps, last)):
        right = run.random.binomial(samples, np.clip(rate + level, 0, 1))
        write_successes(folder, StepSuccesses(step, samples, {f"e{place}": (float(x), samples) for place, x in enumerate(right)}))
    return folder


def test_success_that_falls_without_a_rising_reward_is_a_warning(tmp_path):
    run = Written(steps=30)
    success_down(run)
    diagnosis = found(run, tmp_path)
    assert [(one.id, one.severity) for one in diagnosis.alarms] == [("success_falls", "warning")], diagnosis.to_dict()
    assert diagnosis.verdict == "warnings"
    assert "standard errors" in diagnosis.alarms[0].evidence[0]
    assert "rl.learning_rate" in diagnosis.alarms[0].remedy
    run.each(reward=lambda step: 0.3 + 0.02 * step)
    assert "success_falls" not in names(found(run, tmp_path)), "that is reward_hack's"


def test_held_out_prompts_settle_what_the_curriculum_hides(tmp_path):
    run = Written(steps=30)
    success_down(run)
    run.config["rl"]["curriculum"] = {"name": "difficulty_window"}
    assert not found(run, tmp_path / "a").alarms, "late problems are harder by design"
    falls = examine(evaluated(run, tmp_path / "b", 0.5, 0.3))
    assert names(falls) == ["success_falls"]
    assert "on the same 60 prompts" in falls.alarms[0].evidence[0]
    assert not examine(evaluated(run, tmp_path / "c", 0.5, 0.5)).alarms
    run.config["rl"].pop("curriculum")
    assert not examine(evaluated(run, tmp_path / "d", 0.3, 0.6)).alarms, "held-out success rises"


def test_noise_about_a_level_is_no_fall(tmp_path):
    alarms = 0
    for seed in range(60):
        run = Written(steps=25, seed=seed)
        success_down(run, to=0.195, scatter=0.06)
        alarms += "success_falls" in names(examine(evaluated(run, tmp_path / str(seed), 0.4, 0.4)))
    assert alarms <= 2


def test_large_steps_of_a_run_that_learns_are_a_note(tmp_path):
    run = Written()
    run.each(update__kl=lambda step: 0.3 / step)
    diagnosis = found(run, tmp_path)
    assert diagnosis.verdict == "healthy"
    assert [(one.id, one.severity) for one in diagnosis.findings] == [("learning_rate", "note")]
    assert "learns all the same" in diagnosis.findings[0].sentence
    run.each(success=lambda step: 0.2 + 0.5 * np.sin(np.pi * step / 24) + 0.01 * (-1) ** step)
    assert names(found(run, tmp_path)) == ["learning_rate"], "what it had learned is lost again"


# --- healthy runs


def plain(run):
    pass


def sparse(run):
    for step in run.groups:
        run.groups[step] = [run.group(step, place, 0.01) for place in range(4)]
    run.again()


def saturated(run):
    for step in run.groups:
        run.groups[step] = [run.group(step, place, 1.0) for place in range(4)]
    run.again()
    run.each(entropy=lambda step: 0.1 / step, sampling__surprise=lambda step: 0.1 / step)


def solved_with_falling_entropy(run):
    for step in run.groups:
        run.groups[step] = [run.group(step, place, min(0.97, 0.3 + step / 20)) for place in range(4)]
    run.again()
    run.each(entropy=lambda step: 0.6 * 0.8**step, sampling__surprise=lambda step: 0.6 * 0.8**step)


def rounding_in_bfloat16(run):
    run.config["model"]["dtype"] = "bfloat16"
    run.each(sampling__sampling_logp_difference__mean=0.02, sampling__sampling_logp_difference__max=0.3)
    run.each(sampling__sampling_logp_difference__slope=lambda step: 1 + 0.01 * (-1) ** step)


def empty_generation_prompt_by_design(run):
    run.start["template"] = {"generation": "", "header": " "}


def thinking_template(run):
    run.start["template"] = {"generation": "<|im_start|>assistant\n<think>\n\n</think>\n\n", "header": "<|im_start|>assistant\n"}


def surprise_of_filtered_rollouts(run):
    drawn_colder(run)
    run.each(rollouts__kept=4.0)


@pytest.mark.parametrize(
    "change",
    [
        plain,
        surprise_of_filtered_rollouts,
        sparse,
        saturated,
        solved_with_falling_entropy,
        rounding_in_bfloat16,
        empty_generation_prompt_by_design,
        thinking_template,
    ],
)
def test_healthy_runs_raise_no_alarm(change, tmp_path):
    run = Written()
    change(run)
    diagnosis = found(run, tmp_path)
    assert not diagnosis.alarms, diagnosis.to_dict()
    assert diagnosis.verdict == "healthy"
    assert all(one.state != "broken" for one in diagnosis.invariants)


def test_fine_tuning_that_is_healthy(tmp_path):
    assert found(Written("sft"), tmp_path).verdict == "healthy"


# --- invariants


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda run: run.rows[3].update({"num_tokens_step": 1.0}), "masked"),
        (lambda run: run.rows[3].update({"rollouts/drawn": 99.0}), "rollout is lost"),
        (lambda run: run.rows.pop(4), "no step is missing"),
        (lambda run: run.data["train"].update(kept=98), "accounted for"),
        (lambda run: run.rows[3].update({"sampling/sampling_logp_difference/max": 0.5}), "same log-probs"),
    ],
)
def test_broken_invariants_are_told(spoil, part, tmp_path):
    run = Written()
    spoil(run)
    diagnosis = found(run, tmp_path)
    broken = [one for one in diagnosis.invariants if one.state == "broken"]
    assert len(broken) == 1
    assert part in broken[0].name
    assert diagnosis.verdict == "faulty"


# --- damaged and young runs


def test_a_young_run_is_too_short_to_tell(tmp_path):
    diagnosis = found(Written(steps=2), tmp_path)
    assert diagnosis.verdict == "too short to tell"
    assert not diagnosis.alarms
    assert "too short to tell" in diagnosis.checks["steps"]


@pytest.mark.parametrize(("text", "word"), [("{torn\n[1]\n", "2 damaged lines"), ('{"loss": 1}\n', "1 rows without a step"), ("", "empty")])
def test_what_is_damaged_is_said(text, word, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(text)
    diagnosis = examine(tmp_path)
    assert diagnosis.verdict == "not enough to tell"
    assert any("metrics.jsonl holds no row" in problem and word in problem for problem in diagnosis.problems), diagnosis.problems


def test_only_a_config(tmp_path):
    (tmp_path / "config.yaml").write_text("stage: rl\n")
    assert examine(tmp_path).verdict == "too short to tell"


def test_no_run_at_all(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        examine(tmp_path / "none")
    with pytest.raises(UserError, match="not a run folder"):
        examine(tmp_path)


def test_every_file_may_be_torn_missing_or_nonsense(tmp_path):
    path = Written(steps=6).write(tmp_path / "run")
    files = [*path.glob("*.*"), path / "rollouts" / "step-000003.jsonl"]
    for file in files:
        whole = file.read_bytes()
        for damaged in (
            b"",
            whole[: len(whole) // 3],
            whole[:-1] + b"\xff",
            b"[1, 2]\n",
            b"{}\n",
            b"\x00" * 50,
            b'{"step": "x"}\n',
            b"null\n",
        ):
            file.write_bytes(damaged)
            diagnosis = examine(path)
            assert json.dumps(diagnosis.to_dict())
            assert not any(problem.startswith("check ") for problem in diagnosis.problems), (file.name, damaged[:20], diagnosis.problems)
        file.unlink()
        examine(path)
        file.write_bytes(whole)


def test_values_of_wrong_types_never_crash(tmp_path):
    run = Written(steps=12)
    odd = [None, "NaN", "text", [], {}, True, 1e308]
    for place, row in enumerate(run.rows):
        for number, key in enumerate([key for key in row if key != "step"]):
            if (place + number) % 2:
                row[key] = odd[(place * 7 + number) % len(odd)]
    run.start = {"prompts": {"shared": "many"}, "template": [], "references": {"tokens": None}}
    run.data = {"train": "none", "rows": {"read": None, "kept": 3}}
    run.config["rl"] = "all"
    diagnosis = found(run, tmp_path)
    assert json.dumps(diagnosis.to_dict())


# --- methods bring checks of their own


def test_a_method_module_may_bring_a_check(tmp_path, monkeypatch):
    package = types.ModuleType("methods_of_test")
    package.__path__ = [str(tmp_path / "methods")]
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "chunks.py").write_text(
        "from burnish.rl.doctor.finding import Finding\n"
        "def diagnose(run):\n    return [Finding('chunks', 'warning', f'{run.steps} steps', (), 'rl.thinker')]\n"
    )
    (tmp_path / "methods" / "bad.py").write_text("def diagnose(run):\n    raise ZeroDivisionError('x')\n")
    (tmp_path / "methods" / "silent.py").write_text(
        "from burnish.rl.doctor.finding import TooLittle\ndef diagnose(run):\n    raise TooLittle('no')\n"
    )
    monkeypatch.setitem(sys.modules, "methods_of_test", package)
    diagnosis = examine(Written().write(tmp_path / "run"), rooms=("methods_of_test",))
    assert names(diagnosis) == ["chunks"]
    assert diagnosis.alarms[0].sentence == "24 steps"
    assert diagnosis.checks["methods_of_test.silent"] == "no"
    assert any("bad failed: ZeroDivisionError" in problem for problem in diagnosis.problems)


def test_findings_are_told_by_cause(tmp_path):
    run = Written()
    for spoil in (learning_rate, eval_in_train, generation_prompt):
        spoil(run)
    assert names(found(run, tmp_path)) == ["eval_in_train", "generation_prompt", "learning_rate"]


def test_chance_of_uniform_groups():
    from burnish.rl.doctor.checks.groups import by_chance
    from burnish.rl.doctor.reading import Sample, SampledGroup

    samples = tuple(Sample("", reward, None, False, "eos", 1, 1, (n,), True) for n, reward in enumerate([0.0, 0.0, 0.0, 1.0]))
    assert by_chance([SampledGroup(1, "a", None, {}, samples)]) == pytest.approx(0.75**4 + 0.25**4)


def test_change_is_measured_in_standard_errors():
    from burnish.rl.doctor.trends import change

    difference, errors = change([0.0, 1.0, 0.0, 1.0] + [10.0, 11.0] * 4, first=4)
    scatter = np.sqrt((10 + 81) / 11 / 2)
    assert difference == pytest.approx(10.6 - 0.5)
    assert errors == pytest.approx(difference / (scatter * (1 / 4 + 1 / 5) ** 0.5))
    assert abs(change(list(np.arange(20.0)), first=3)[1]) > 10, "a trend is no scatter"


def test_finding_and_too_little_are_public():
    assert Finding("a", "note", "b").to_dict()["evidence"] == []
    assert issubclass(TooLittle, Exception)
