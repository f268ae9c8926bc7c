"""The script for GPUs: says so where there is none and writes nothing; its tiny size runs on a CPU."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import benchmarks_page

from benchmarks import gpu_step


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", "--json", str(tmp_path / "out.json")])
    gpu_step.main()
    out = capsys.readouterr().out
    assert "no GPU" in out
    assert out.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_tiny_size_runs_on_a_cpu(tmp_path, monkeypatch, capsys):
    target = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", "--tiny", "--device", "cpu", "--json", str(target)])
    gpu_step.main()
    found = json.loads(target.read_text())
    sft, grpo = found["gpu_step"]
    assert (sft["step"], grpo["step"]) == ("fine-tuning", "GRPO")
    assert sft["tokens"] == 8 * (16 + 8 + 1), "8 examples, each with its end token"
    assert 0 < grpo["tokens"] <= 8 * 2 * 8
    for row in found["gpu_step"]:
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / row["seconds"])
        assert row["peak_memory_bytes"] > 1e7
    page = "\n".join(benchmarks_page.gpu_step(found))
    assert f"| GRPO | {grpo['seconds']:.2f} |" in page
    assert capsys.readouterr().out.count("\n") == 2


def test_the_large_size_has_half_a_billion_parameters():
    config = gpu_step.tiny.KINDS["qwen3"](896, 24, 14, 2, 2048, None)
    sizes = {key: gpu_step.HALF_BILLION[key] for key in ("intermediate_size", "tie_word_embeddings")}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", vocab_size=151936, **(config | sizes)))
    assert 0.45e9 < sum(parameter.numel() for parameter in model.parameters()) < 0.55e9
