"""The model card: valid for the hub, and nothing in it that the run does not say."""

import json

from huggingface_hub import ModelCard
from report_run_folders import RL_CONFIG, metric_rows, write_run

from burnish.reports.card import hub_id, model_card
from burnish.reports.summary import Arm, Summary


def test_the_card_of_an_rl_run_after_sft(tmp_path):
    sft = write_run(tmp_path / "runs" / "sft", {"stage": "sft", "model": {"path": "Qwen/Qwen3-0.6B"}}, [{"step": 1, "loss": 1.0}])
    (sft / "checkpoint-40").mkdir()
    run = write_run(tmp_path / "runs" / "rl", RL_CONFIG, metric_rows(40))
    Summary(arms=(Arm("base", 0.05, 0.03, 0.08),)).write(run)
    card = ModelCard(model_card(run, name="sums", facts={"Parameters": 2_000_000}))
    data = card.data.to_dict()
    assert data["base_model"] == "Qwen/Qwen3-0.6B"
    assert data["library_name"] == "transformers"
    assert data["tags"] == ["burnish", "rl", "grpo"]
    assert data["datasets"] == ["someone/sums"]
    assert data["model-index"][0]["results"][0]["metrics"][0] == {"type": "success", "value": 0.718799, "name": "held-out success"}
    for words in (
        "- Base model: Qwen/Qwen3-0.6B",
        "Before it (sft): supervised fine-tuning",
        "- Parameters: 2,000,000",
        "0.719 [0.689, 0.749]",
    ):
        assert words in card.text, words
    assert "burnish train --config 'my config.yaml'" in card.text
    assert "| torch   | 2.13.0  |" in card.text
    assert "0.050 [0.030, 0.080]" in card.text


def test_a_local_path_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "base").mkdir(parents=True)
    config = {"stage": "sft", "model": {"path": "models/base", "lora": {"r": 8}}, "data": {"path": "data/train.jsonl"}}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("{}\n")
    card = model_card(write_run(tmp_path / "run", config, [{"step": 1, "eval/loss": 0.5}]), adapter=True)
    data = ModelCard(card).data.to_dict()
    assert "base_model" not in data
    assert "datasets" not in data
    assert data["library_name"] == "peft"
    assert data["model-index"][0]["results"][0]["dataset"] == {"name": "train.jsonl", "type": "train.jsonl"}
    assert "- Base model: base\n" in card
    assert "LoRA adapter, rank 8" in card
    assert hub_id("/abs/folder", tmp_path) is None
    assert hub_id("someone/model", tmp_path) == "someone/model"


def test_a_bare_run_claims_nothing(tmp_path):
    (tmp_path / "config.yaml").write_text("stage: sft\n")
    card = model_card(tmp_path)
    assert set(ModelCard(card).data.to_dict()) == {"library_name", "pipeline_tag", "tags"}
    for words in ("Base model", "Results", "Command", "Versions"):
        assert words not in card


def test_text_from_a_run_cannot_break_the_card(tmp_path):
    config = {"stage": "rl", "model": {"path": "a: b\n---\n# x"}, "data": {"path": "```\n<b>"}}
    run = write_run(tmp_path / "run", config, metric_rows(1))
    (run / "run.json").write_text(json.dumps({"starts": [{"command": "echo ```"}]}))
    card = ModelCard(model_card(run, name="# *x*"))
    assert "base_model" not in card.data.to_dict()
    assert card.text.count("\n````bash\necho ```\n````\n") == 1
    assert "# # \\*x\\*" in card.text


def test_parents_that_point_at_each_other_end(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        write_run(tmp_path / name, {"stage": "rl", "model": {"path": other}}, metric_rows(1))
    assert "- Base model: a" in model_card(tmp_path / "a")
