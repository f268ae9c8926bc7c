"""Every verb at work on a tiny model: what it prints, what it leaves, and its --json form."""

from __future__ import annotations

import json

import pytest
import torch
from cli_world import EVAL, RL, SFT, is_whole


def last_row(run):
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def greedy(folder, prompt="1+1="):
    """What a model folder writes, and its logits, through transformers alone."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([words(prompt)["input_ids"]])
    with torch.no_grad():
        return model(ids).logits[0, -1], model


def test_help_lists_the_verbs_and_every_verb_explains_itself(burnish, capsys):
    code, out, err = burnish("--help")
    assert (code, err) == (0, "")
    verbs = ["eval", "export", "generate", "info", "report", "train"]
    assert [verb for verb in verbs if f"\n  {verb} " not in out] == []
    for verb in verbs:
        with pytest.raises(SystemExit) as stopped:
            burnish(f"{verb} --help")
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        assert f"usage: burnish {verb}" in text
        assert "--json" in text
    assert burnish("")[1] == out
    assert burnish("--version")[1].startswith("burnish ")


def test_fields_and_dry_run_show_the_configuration_and_write_nothing(burnish, here):
    code, out, _ = burnish("train --fields")
    assert code == 0
    assert "--rl.steps  int (default 100)\n      batches to learn from" in out
    assert "'sft' | 'rl'" in out
    assert max(map(len, out.splitlines())) <= 110
    fields = json.loads(burnish("train --fields --json")[1])
    assert {"field": "rl.steps", "type": "int", "default": "100", "meaning": "batches to learn from"} in fields
    before = sorted(here.iterdir())
    code, text, err = burnish(f"{RL} --dry-run")
    assert code == 0
    assert "update" in err, "the estimate, apart from the configuration"
    found = json.loads(burnish(f"{RL} --dry-run --json")[1])
    assert found["config"]["rl"]["steps"] == 1
    assert found["estimate"]["flops"] > 0
    assert found["estimate"]["fits"] is True
    assert sorted(here.iterdir()) == before
    (here / "again.yaml").write_text(text)
    assert burnish("train again.yaml --dry-run")[1] == text, "a resolved configuration reads back as itself"
    assert burnish("train --rl.steps 7 again.yaml --dry-run")[1] == text.replace("  steps: 1\n", "  steps: 7\n", 1)


def test_train_sft_then_report_then_export(burnish, here):
    code, out, err = burnish(f"{SFT} --sft.steps 3 --sft.eval_steps 1 --eval.rows 2 --sft.learning_rate 1e-3")
    assert (code, err) == (0, "")
    assert "Report: run/report.html" in out
    run = here / "run"
    assert is_whole(run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert rows[-1]["eval_loss"] < rows[0]["eval_loss"]
    assert json.loads((run / "data.json").read_text())["train"]["kept"] == 4
    starts = json.loads((run / "run.json").read_text())["starts"]
    assert starts[0]["command"].startswith("burnish ")

    (run / "report.html").unlink()
    assert json.loads(burnish("report run --json")[1]) == {"report": "run/report.html"}
    page = (run / "report.html").read_text()
    assert page.startswith("<!doctype html>") or page.lower().startswith("<!doctype html>")
    assert burnish("report run --output page.html")[1].endswith("Report: page.html\n")

    code, out, err = burnish("export run out --checkpoint last")
    assert (code, err, out) == (0, "", "Model: out\n")
    assert (here / "out/README.md").read_text().startswith("---")
    assert torch.equal(greedy("out")[0], greedy("run/checkpoint-3")[0])
    assert json.loads(burnish("export run out2 --json")[1]) == {"output": "out2"}


def test_train_rl_with_an_evaluation_json_and_resume(burnish, here):
    command = f"{RL} --rl.steps 2 --eval.rows 2 --eval.steps 1 --rl.objective dr_grpo"
    code, out, err = burnish(f"{command} --json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["step"] == 2
    assert found["stopped"] == "done"
    assert found["report"] == "run/report.html"
    rows = [json.loads(line) for line in (here / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all("eval/reward" in row for row in rows)
    assert (here / "run/rollouts/step-000002.jsonl").exists()
    assert burnish(f"{command} --resume")[0] == 0
    assert [json.loads(line)["step"] for line in (here / "run/metrics.jsonl").read_text().splitlines()] == [0, 1, 2]


def test_train_from_yaml_with_flags_on_top(burnish, here):
    text = "stage: rl\nmodel: {path: gone}\ndata: {path: data.jsonl}\nrl:\n  rewards: ['reward.py:score']\n  steps: 1\n"
    (here / "c.yaml").write_text(text)
    code, _, err = burnish("train c.yaml --model.path {model} --output run --rl.prompts_per_step 2 --rl.group-size 2 --rl.max_new_tokens=4")
    assert (code, err) == (0, "")
    assert last_row(here / "run")["step"] == 1


def test_a_lora_run_is_exported_merged(burnish, here, models):
    code, _, err = burnish(f"{SFT} --model.lora.rank 4 --sft.learning_rate 0.01 --sft.steps 4")
    assert (code, err) == (0, "")
    assert (here / "run/checkpoint-4/adapter_model.safetensors").exists()
    assert burnish("export run merged")[::2] == (0, "")
    assert not (here / "merged/adapter_config.json").exists()
    merged, model = greedy("merged")
    assert not hasattr(model, "peft_config")
    base, _ = greedy(models["model"])
    import peft
    import transformers

    plain = transformers.AutoModelForCausalLM.from_pretrained(models["model"], dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(plain, "run/checkpoint-4").eval()
    words = transformers.AutoTokenizer.from_pretrained("merged")
    with torch.no_grad():
        wanted = adapted(torch.tensor([words("1+1=")["input_ids"]])).logits[0, -1]
    assert torch.allclose(merged, wanted, atol=1e-5)
    assert not torch.allclose(merged, base, atol=1e-3)
    code, out, err = burnish("generate run/checkpoint-4 1+1= --max_new_tokens 4 --sampling.temperature 0 --json")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(burnish("generate merged 1+1= --max_new_tokens 4 --sampling.temperature 0 --json")[1])


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_check_shows_rows_masks_and_rewards_and_changes_nothing(stage, burnish, here):
    body = "return [float(a in c) for c, a in zip(completions, answer)]"
    (here / "reward.py").write_text(f"def score(completions, answer, **kw):\n    {body}\n")
    before = sorted(here.iterdir())
    code, out, err = burnish(f"{RL if stage == 'rl' else SFT} --check")
    assert (code, err) == (0, "")
    assert "no weight was changed" in out
    assert "row 0 (data.jsonl:1)" in out
    found = json.loads(burnish(f"{RL if stage == 'rl' else SFT} --check --json")[1])
    assert found["stage"] == stage
    assert len(found["rows"]) == 6
    pieces = found["rows"][0]["pieces"]
    if stage == "sft":
        assert pieces == [["0+1=", False], ["1<|eos|>", True]]
    else:
        assert pieces == [["0+1=", False]]
        assert [row["gold"] for row in found["rows"]] == [1.0] * 6
        assert all(len(row["samples"]) == 2 for row in found["rows"])
        assert found["uniform"] is not None
    assert sorted(here.iterdir()) == before


def test_check_names_a_gold_answer_that_scores_nothing(burnish, here):
    (here / "reward.py").write_text("def score(completions, **kw):\n    return [0.0 for _ in completions]\n")
    found = json.loads(burnish(f"{RL} --check --json")[1])
    assert "data.jsonl:1: the reference answer '1' scores 0" in found["warnings"][0]


def test_eval_measures_saves_and_compares(burnish, here):
    (here / "reward.py").write_text("def right(text, columns):\n    return columns['answer'] in text\n")
    command = EVAL.replace("score", "right") + " --samples 2 --seed 1"
    code, out, err = burnish(f"{command} --output a.json")
    assert (code, err) == (0, "")
    assert "pass@1" in out
    assert "pass@2" in out
    assert "Result: a.json" in out
    found = json.loads(burnish(f"{command} --json")[1])
    saved = json.loads((here / "a.json").read_text())
    assert (found["items"], found["samples"]) == (6, 2)
    assert found["pass@1"] == saved["pass@1"], "the same seed gives the same completions"
    assert len(saved["results"]) == 6
    again = json.loads(burnish(f"{command} --against a.json --json")[1])
    difference = next(row for row in again["measures"] if row["measure"] == "success - earlier")
    assert (difference["value"], difference["low"], difference["high"]) == (0, 0, 0)

    (here / "data.jsonl").write_text("".join((here / "data.jsonl").read_text().splitlines(keepends=True)[:3]))
    code, out, err = burnish(f"{command} --against a.json --output b.json")
    assert (code, out) == (2, "")
    assert "different items (3 are in one only)" in err
    assert not (here / "b.json").exists()


def test_generate_from_words_files_and_messages(burnish, here):
    small = "--max_new_tokens 4 --threads 1"
    code, out, err = burnish(f"generate {small} --sampling.temperature 0 {{model}} 1+1= 2+2=")
    assert (code, err) == (0, "")
    assert out.count("-> ") == 2
    rows = [json.loads(line) for line in burnish(f"generate {{model}} 1+1= --n 3 --seed 4 {small} --json")[1].splitlines()]
    assert [(row["prompt"], len(row["completions"])) for row in rows] == [("1+1=", 3)]
    assert rows == [json.loads(line) for line in burnish(f"generate {{model}} 1+1= --n 3 --seed 4 {small} --json")[1].splitlines()]
    (here / "prompts.txt").write_text("a\n\nb\n")
    for file, count in (("prompts.txt", 2), ("data.jsonl", 6)):
        assert len(burnish(f"generate {{model}} --file {file} {small} --json")[1].splitlines()) == count
    chat, plain = (json.loads(burnish(f"generate {{model}} hi --seed 1 {small} --json {more}")[1]) for more in ("--chat", ""))
    assert chat["prompt"] == plain["prompt"] == "hi"


def test_info_says_what_a_bug_report_needs(burnish):
    code, out, err = burnish("info")
    assert (code, err) == (0, "")
    assert [word for word in ("versions", "threads", "devices", "platform") if word not in out] == []
    found = json.loads(burnish("info --json")[1])
    assert found["versions"]["torch"] == torch.__version__


def test_cost_of_a_model_here_and_on_a_named_machine(burnish, here):
    code, out, _ = burnish("cost {model} h100 --rows 2 --prompt 8 --new 4 --json")
    assert code == 0
    found = json.loads(out)
    assert found["machine"]["name"] == "H100 80 GB SXM"
    assert found["parts"]["training"]["flops"] > found["parts"]["prefill"]["flops"] > 0
    assert found["dtype"] == "bfloat16"
    shown = burnish("cost {model}")[1]
    assert "decode" in shown
    if not torch.cuda.is_available():
        assert "weights in float32" in shown
    assert json.loads(burnish("cost {model} here --dtype bfloat16 --json")[1])["dtype"] == "bfloat16"
    code, _, err = burnish("cost {model} h10")
    assert code == 2
    assert "'h100'" in err
    assert burnish("cost {model} --rows 0")[0] == 2
    assert "no model config" in burnish("cost nowhere")[2]
