"""Bad input through the command line: one clear line that names what is wrong, where, and what to do; exit code 2; nothing left behind.

Each row of the table is (id, files to write first, command, what the line must say). Later flags win over earlier ones.
"""

from __future__ import annotations

import gzip
import json

import pytest
from cli_world import CHAT, EVAL, RL, ROWS, SFT, is_whole, one_line, snapshot

EVALS = "--eval.rows 2 --eval.steps 1"
WINDOW = "{name: difficulty_window"
CHAT_SFT = f"{SFT} --data.path chat.jsonl"
STARTED = {"run/config.yaml": "stage: sft\n", "run/run.json": '{"starts": []}'}
ROW = '{"prompt": "1+1=", "completion": "2"}\n'


def reward(body: str, head: str = "def score(completions, **kwargs):") -> dict[str, str]:
    return {"reward.py": f"import math\n{head}\n    {body}\n"}


def data(*lines: str) -> dict[str, str]:
    return {"data.jsonl": "".join(line + "\n" for line in lines)}


def config(text: str) -> dict[str, str]:
    return {"config.yaml": text}


TABLE = [
    # the command
    ("unknown verb", {}, "trian config.yaml", ["unknown command 'trian'", "did you mean 'train'"]),
    ("unknown flag", {}, f"{RL} --rl.group_sise 4", ["flag --rl.group_sise", "unknown key", "did you mean 'group_size'"]),
    ("misspelt option", {}, f"{RL} --resum", ["--resum", "did you mean 'resume'"]),
    ("unknown option of a verb", {}, "report run --ouptut x", ["--ouptut", "did you mean '--output'"]),
    ("argument missing", {}, "eval {model} data.jsonl", ["required: reward", "--help"]),
    ("one word too many", {}, f"{RL} config.yaml more.yaml", ["unrecognized arguments: more.yaml"]),
    ("flag without dashes", {}, f"{RL} -rl.steps 4", ["-rl.steps"]),
    ("nothing given", {}, "train", ["give a YAML file or flags", "--fields"]),
    ("wrong value type", {}, f"{RL} --rl.steps many", ["flag --rl.steps", "'many'", "wanted int"]),
    ("negative number", {}, f"{RL} --rl.steps -5", ["flag --rl.steps", "-5", "greater than or equal to 1"]),
    ("zero", {}, f"{RL} --rl.learning_rate 0", ["flag --rl.learning_rate", "greater than 0"]),
    ("not one of the choices", {}, f"{RL} --stage rll", ["flag --stage", "'rll'", "'sft' | 'rl'"]),
    ("bad choice in eval", {}, f"{EVAL} --engine_mode exakt", ["flag --engine_mode", "'exakt'", "'exact'"]),
    # the configuration file
    ("no config file", {}, "train gone.yaml", ["cannot read the config gone.yaml", "No such file"]),
    ("unknown key in YAML", config("rl:\n  steps: 3\n  group_sise: 4\n"), "train config.yaml", ["line 3", "group_sise'", "'group_size'"]),
    ("unknown key of another section", {}, f"{RL} --group_size 4", ["flag --group_size", "unknown key", "did you mean 'rl.group_size'"]),
    ("broken YAML", config("stage: rl\nrl: [1, 2\nseed: 1\n"), "train config.yaml", ["config.yaml, line 3", "broken YAML"]),
    ("key twice in YAML", config("seed: 1\nstage: rl\nseed: 2\n"), "train config.yaml", ["config.yaml, line 3", "'seed'", "remove one"]),
    ("wrong type in YAML", config("stage: rl\nrl:\n  steps: '3'\n"), "train config.yaml", ["yaml, line 3", "'rl.steps'", "wanted int"]),
    ("a list for a config", config("- stage\n"), "train config.yaml", ["config.yaml", "mapping", "list"]),
    ("config not UTF-8", {"config.yaml": b"output: caf\xe9\n"}, "train config.yaml", ["config.yaml", "not UTF-8", "save it as UTF-8"]),
    # what contradicts itself
    ("no output", {}, f"{RL} --output ''", ["output is not set", "--output"]),
    ("no model", {}, f"{RL} --model.path ''", ["model.path is not set", "--model.path"]),
    ("no data", {}, "train --model.path {model} --output run --rl.rewards [reward.py:score]", ["data.path is not set", "--data.path"]),
    ("no reward", {}, f"{RL} --rl.rewards []", ["rl.rewards is empty", "--rl.rewards"]),
    ("eval.steps without data", {}, f"{RL} --eval.steps 1", ["eval.steps", "eval.rows", "eval.path"]),
    ("sft.eval_steps without data", {}, f"{SFT} --sft.eval_steps 1", ["sft.eval_steps", "eval.rows", "eval.path"]),
    ("eval.steps in sft", {}, f"{SFT} --eval.steps 1 --eval.rows 2", ["eval.steps is for stage rl", "sft.eval_steps"]),
    ("more held out than there is", {}, f"{RL} --eval.rows 6", ["data.jsonl", "cannot hold out 6 of 6"]),
    ("unknown metric for best", {}, f"{RL} {EVALS} --eval.metric_for_best eval/rewrd", ["'eval/rewrd'", "did you mean 'eval/reward'"]),
    ("patience without evaluation", {}, f"{RL} --eval.patience 2", ["eval.patience", "eval.steps"]),
    ("epochs and steps", {}, f"{SFT} --sft.epochs 2", ["epochs and steps are both set", "give one"]),
    ("group of one", {}, f"{RL} --rl.group_size 1", ["group_size is 1", "group_mean", "2 or more"]),
    ("truncated sampling", {}, f"{RL} --sampling.top_k 5", ["top_k", "another distribution", "top_k 0"]),
    ("temperature 0", {}, f"{RL} --sampling.temperature 0", ["sampling.temperature is 0", "above 0"]),
    ("weights for other rewards", {}, f"{RL} --rl.weights [1,2]", ["2 weights for 1 rewards"]),
    ("tracker not there", {}, f"{RL} --trackers [wandb]", ["wandb", "not installed", "pip install wandb"]),
    # names that lead nowhere
    ("unknown objective", {}, f"{RL} --rl.objective grpoo", ["unknown objective 'grpoo'", "did you mean 'grpo'"]),
    ("unknown knob", {}, f"{RL} --rl.objective '{{preset: grpo, weigths: token_mean}}'", ["weigths", "did you mean 'weights'"]),
    ("unknown curriculum", {}, f"{RL} --rl.curriculum unifrom", ["curriculum 'unifrom'", "did you mean 'uniform'"]),
    ("unknown curriculum argument", {}, f"{RL} --rl.curriculum '{WINDOW}, lo: 0.1}}'", ["difficulty_window", "'lo'", "'low'"]),
    ("curriculum out of range", {}, f"{RL} --rl.curriculum '{WINDOW}, low: 2}}'", ["difficulty_window", "low 2", "<= 1"]),
    ("unknown thinker", {}, f"{RL} --rl.thinker singel", ["'singel'", "did you mean 'single'"]),
    ("unknown filter", {}, f"{RL} --rl.filters [zero_varianc]", ["filter 'zero_varianc'", "did you mean 'zero_variance'"]),
    ("unknown shaper", {}, f"{RL} --rl.shapers [overlog]", ["'overlog'", "did you mean 'overlong'"]),
    ("a reward for a shaper", {}, f"{RL} --rl.shapers [random]", ["rl.shapers", "'random'", "rl.rewards"]),
    # the user's reward
    ("reward file missing", {}, f"{RL} --rl.rewards [gone.py:score]", ["cannot read gone.py", "No such file"]),
    ("reward not in the file", {}, f"{RL} --rl.rewards [reward.py:scor]", ["reward.py has no 'scor'", "did you mean 'score'"]),
    ("unknown reward", {}, f"{RL} --rl.rewards [formt]", ["reward 'formt'", "did you mean 'format'"]),
    ("reward with a syntax error", reward("return [1.0 for"), RL, ["reward.py, line 3", "SyntaxError"]),
    ("reward file that raises", {"reward.py": "import math\nx = math.squrt(2)\n"}, RL, ["reward.py, line 2", "squrt"]),
    ("reward file that exits", {"reward.py": "import sys\nsys.exit(3)\n"}, RL, ["reward.py, line 2", "SystemExit"]),
    ("reward with a strange signature", reward("return 1.0", "def score(a, b, c):"), RL, ["'score' takes (a, b, c)", "(text, columns)"]),
    ("reward that raises", reward("return [1 / 0 for _ in completions]"), RL, ["raised ZeroDivisionError", "reward.py, line 3", "mend"]),
    ("reward that returns None", reward("pass"), RL, ["reward 'score' returned None", "return a list"]),
    ("reward that returns NaN", reward("return [math.nan for _ in completions]"), RL, ["reward 'score' returned nan", "finite number"]),
    ("reward of the wrong length", reward("return [1.0]"), RL, ["reward 'score' returned 1 values for the 2 completions", "one for each"]),
    ("reward that returns text", reward("return ['good' for _ in completions]"), RL, ["returned 'good'", "finite number"]),
    ("reward that raises in eval", reward("raise OSError(28, 'No space')"), EVAL, ["reward 'score' raised OSError", "reward.py, line 3"]),
    ("reward that raises in the first evaluation", reward("return None"), f"{RL} {EVALS}", ["returned None"]),
    ("reward missing a column", reward("return [0.0 for _ in gold]", "def score(completions, gold):"), RL, ["'gold'", "columns there"]),
    # the data
    ("no data file", {}, f"{RL} --data.path date.jsonl", ["date.jsonl: no such file", "did you mean 'data.jsonl'"]),
    ("missing column", data('{"question": "1+1="}'), RL, ["data.jsonl", "no column 'prompt'", "question", "columns.prompt"]),
    ("mapped column missing", {}, f"{RL} --data.columns '{{prompt: questoin}}'", ["columns.prompt names 'questoin'", "columns there"]),
    ("no completion for sft", data('{"prompt": "1+1="}'), SFT, ["data.jsonl", "no column 'completion'", "columns.completion"]),
    ("messages without prompts for rl", {"data.jsonl": CHAT}, RL, ["data.jsonl", "no column 'prompt'"]),
    ("broken JSON", {"data.jsonl": ROW * 2 + '{"prompt": "x"\n' + ROW}, RL, ["data.jsonl:3", "broken JSON", "bad_rows"]),
    ("row that is no object", data("[1, 2]"), RL, ["data.jsonl:1", "a list", "bad_rows"]),
    ("empty file", {"data.jsonl": ""}, RL, ["data.jsonl: the file is empty"]),
    ("blank lines only", {"data.jsonl": "\n\n"}, RL, ["data.jsonl", "no rows"]),
    ("wrong encoding", {"data.jsonl": (ROW + '{"prompt": "café"}\n').encode("latin-1")}, RL, ["data.jsonl:2", "not UTF-8", "0xe9"]),
    ("UTF-16", {"data.jsonl": ROW.encode("utf-16")}, RL, ["data.jsonl:1", "UTF-16", "iconv"]),
    ("column of the wrong type", data('{"prompt": 5}'), RL, ["data.jsonl:1", "prompt is a number (5)", "text or a list of messages"]),
    ("message without a role", data('{"prompt": [{"content": "x"}]}'), RL, ["data.jsonl:1", "role"]),
    ("empty prompt", data('{"prompt": ""}'), RL, ["data.jsonl:1", "prompt is empty"]),
    ("column missing in one row", data('{"prompt": "a"}', '{"promt": "b"}'), RL, ["data.jsonl:2", "no column 'prompt'"]),
    ("prompt longer than the context", data(json.dumps({"prompt": "x" * 70})), RL, ["data.jsonl:1", "70 tokens", "63", "context is 64"]),
    ("row longer than the context", data(json.dumps({"prompt": "x", "completion": "y" * 70})), SFT, ["no row is left of 1", "72 tokens"]),
    ("one id, two prompts", data('{"prompt": "a", "id": 1}', '{"prompt": "b", "id": 1}'), RL, ["data.jsonl:2", "id '1'", "another prompt"]),
    ("one id twice in eval", data('{"prompt": "a", "id": 1}', '{"prompt": "a", "id": 1}'), EVAL, ["id '1'", "twice"]),
    ("bad parquet", {"data.parquet": b"PAR1 nothing"}, f"{RL} --data.path data.parquet", ["data.parquet", "not a readable Parquet file"]),
    ("ragged CSV", {"data.csv": "prompt,answer\na,1\nb\n"}, f"{RL} --data.path data.csv", ["data.csv:3", "1 fields", "2 columns"]),
    ("torn gzip", {"data.jsonl.gz": gzip.compress(ROW.encode() * 50)[:-9]}, f"{RL} --data.path data.jsonl.gz", ["data.jsonl.gz", "gzip"]),
    ("unknown kind of file", {"data.txt": "x"}, f"{RL} --data.path data.txt", ["data.txt", "unknown kind of file", ".jsonl"]),
    ("data of the hub, offline", {}, f"{RL} --data.path nobody/nothing", ["nobody/nothing", "hub"]),
    # the model
    ("no model folder", {}, f"{RL} --model.path ./gone", ["model folder './gone' does not exist"]),
    ("hub id, offline", {}, f"{RL} --model.path nobody/nothing", ["model 'nobody/nothing'", "hub", "offline"]),
    ("no config.json", {}, f"{RL} --model.path {{no_config}}", ["no_config has no config.json"]),
    ("torn config.json", {}, f"{RL} --model.path {{torn_config}}", ["config.json", "not readable as JSON"]),
    ("unknown model type", {}, f"{RL} --model.path {{unknown_type}}", ["model type 'qwen33' is unknown", "did you mean 'qwen3'"]),
    ("not a language model", {}, f"{RL} --model.path {{not_causal}}", ["model type 'vit'", "no causal language model"]),
    ("model with code of its own", {}, f"{RL} --model.path {{own_code}}", ["'mine'", "its own code", "trust_remote_code"]),
    ("pickled weights", {}, f"{RL} --model.path {{pickled}}", ["pickled weights (pytorch_model.bin)", "convert"]),
    ("no weights", {}, f"{RL} --model.path {{no_weights}}", ["no_weights has no weights", "safetensors"]),
    ("torn weights", {}, f"{RL} --model.path {{torn_weights}}", ["torn_weights", "cannot be loaded"]),
    ("no tokenizer", {}, f"{RL} --model.path {{no_tokenizer}}", ["no_tokenizer has no tokenizer"]),
    ("adapter without base", {}, f"{RL} --model.path {{no_base}}", ["no_base", "adapter_config.json", "gone", "does not exist"]),
    ("adapter folder that is none", {}, f"{RL} --model.adapter {{model}}", ["is no adapter folder", "adapter_config.json is missing"]),
    ("unknown LoRA target", {}, f"{RL} --model.lora.targets [q_prj]", ["lora.targets", "'q_prj'", "did you mean 'q_proj'"]),
    ("no EOS", {}, f"{RL} --model.path {{no_eos}}", ["no end-of-sequence token", "eos_token"]),
    ("no EOS in sft", {}, f"{SFT} --model.path {{no_eos}}", ["no end-of-sequence token", "eos_token"]),
    ("no chat template", {}, f"{CHAT_SFT} --model.path {{no_template}}", ["chat.jsonl:1", "no chat template", "tokenizer.chat_template"]),
    ("unknown template argument", {}, f"{CHAT_SFT} --model.template_args '{{thinkin: false}}'", ["'thinkin'", "template"]),
    # where things go
    ("output is a file", {"run": "x"}, RL, ["cannot write run", "is a file"]),
    ("output inside a file", {"a": "x"}, f"{RL} --output a/b/c", ["cannot write a/b/c", "is a file"]),
    ("output where nobody may write", {}, f"{RL} --output /proc/burnish/run", ["cannot write /proc/burnish/run"]),
    ("folder with a run in it", STARTED, RL, ["run holds a run already", "--resume"]),
    ("folder with other results", {"run/metrics.jsonl": "{}\n"}, RL, ["run holds results but no config.yaml", "another folder"]),
    ("resume under another config", STARTED, f"{RL} --resume", ["another config", "stage"]),
    ("eval output in no folder", {}, f"{EVAL} --output gone/result.json", ["cannot write gone/result.json", "no folder gone"]),
    # the other verbs
    ("generate without prompt", {}, "generate {model}", ["no prompt", "--file"]),
    ("generate none", {}, "generate {model} hello --n 0", ["--n is 0", "at least 1"]),
    ("generate from an empty file", {"prompts.txt": ""}, "generate {model} --file prompts.txt", ["prompts.txt", "empty"]),
    ("generate from no file", {}, "generate {model} --file gone.txt", ["gone.txt", "No such file"]),
    ("generate past the context", {}, "generate {model} " + "x" * 70, ["prompt 1 has 70 tokens", "64", "shorten"]),
    ("generate with no model", {}, "generate ./gone hello", ["model folder './gone' does not exist"]),
    ("chat without template", {}, "generate {no_template} hello --chat", ["no chat template"]),
    ("eval without rows", {"data.jsonl": ""}, EVAL, ["data.jsonl: the file is empty"]),
    ("against no file", {}, f"{EVAL} --against gone.json", ["gone.json", "No such file"]),
    ("against something else", {"old.json": '{"a": 1}'}, f"{EVAL} --against old.json", ["old.json", "no evaluation result"]),
    ("report of nothing", {}, "report gone", ["gone: no such run folder", "burnish train"]),
    ("report of another folder", {"other/x.txt": "x"}, "report other", ["other: not a run folder"]),
    ("export of nothing", {}, "export gone out", ["no folder gone"]),
    ("export over other files", {"out/x.txt": "x"}, "export {model} out", ["out holds files that are no model"]),
    ("export of an unfinished run", {"run/config.yaml": "stage: rl\n"}, "export run out", ["run holds no finished checkpoint"]),
]


AFTER_LOADING = {
    "unknown metric for best", "curriculum out of range", "prompt longer than the context",
    "row longer than the context", "one id, two prompts", "one id twice in eval", "hub id, offline", "torn weights", "unknown LoRA target",
    "no EOS", "no EOS in sft", "no chat template", "unknown template argument", "output where nobody may write",
    "generate past the context", "chat without template", "reward missing a column", "reward of the wrong length",
    *(row[0] for row in TABLE if row[0].startswith("reward that")),
}  # fmt: skip
"""What only shows with the model's tokenizer, limits or completions at hand; everything else is refused before a weight is read."""


@pytest.mark.parametrize(("name", "files", "command", "says"), TABLE, ids=[row[0] for row in TABLE])
def test_bad_input_is_one_clear_line(name, files, command, says, burnish, here, loads):
    for path, text in files.items():
        (here / path).parent.mkdir(exist_ok=True)
        (here / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    before = snapshot(here)
    code, out, err = burnish(command)
    assert (code, out) == (2, ""), err
    assert one_line(err), err
    assert len(err) < 600
    assert [part for part in says if part not in err] == [], err
    assert snapshot(here) == before
    assert bool(loads) == (name in AFTER_LOADING)


@pytest.mark.parametrize("name", ["unknown flag", "broken JSON", "reward that raises", "torn weights", "argument missing"])
def test_debug_adds_the_traceback(name, burnish, here):
    _, files, command, says = next(row for row in TABLE if row[0] == name)
    for path, text in files.items():
        (here / path).write_text(text)
    code, out, err = burnish(command, "--debug")
    assert (code, out, err.count("Traceback (most recent call last)") > 0) == (2, "", True)
    last = err.splitlines()[-1]
    assert last.startswith("burnish: ")
    assert all(part in last for part in says)


def test_a_defect_of_burnish_says_so(burnish, monkeypatch):
    monkeypatch.setattr("burnish.runs.environment.describe", lambda: 1 / 0)
    code, out, err = burnish("info")
    assert (code, out) == (1, "")
    assert "internal error: ZeroDivisionError: division by zero; this is a defect of burnish: run again with --debug" in err
    assert one_line(err)


@pytest.mark.parametrize("stage", [RL, SFT], ids=["rl", "sft"])
def test_a_model_without_a_pad_token_is_fine(stage, burnish, here):
    """Padding is never read: the end-of-sequence token stands in."""
    code, _, err = burnish(f"{stage} --model.path {{no_pad}}")
    assert (code, err) == (0, "")
    assert is_whole(here / "run")
    assert json.loads((here / "run/metrics.jsonl").read_text().splitlines()[-1])["step"] >= 1


def test_a_model_without_an_end_is_fine_where_a_string_ends_completions(burnish):
    assert burnish(f"{RL} --model.path {{no_eos}} --sampling.stop ['=']")[::2] == (0, "")


def test_bad_rows_are_skipped_and_counted_where_that_is_asked_for(burnish, here):
    (here / "data.jsonl").write_text(ROWS + "{oops\n" + json.dumps({"prompt": "x" * 70, "completion": "y"}) + "\n")
    assert burnish(f"{RL} --data.bad_rows skip")[::2] == (0, "")
    found = json.loads((here / "run/data.json").read_text())
    assert [one["where"] for one in found["rows"]["skipped"]] == ["data.jsonl:7"]
    assert [one["where"] for one in found["train"]["skipped"]] == ["data.jsonl:8"]
