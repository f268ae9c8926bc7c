"""Loading, saving, adapters and their refusals."""

import json

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from burnish.models import load, lora, save, tiny, tokenizer
from burnish.runs.errors import UserError

torch.set_num_threads(1)
IDS = torch.arange(14).view(2, 7)


@pytest.fixture
def saved(tmp_path):
    return save.save_model(tiny.make("llama"), tokenizer.byte_level(), tmp_path / "model")


def test_a_model_comes_back(saved, tmp_path):
    model, its = load.load_model(saved)
    assert torch.equal(model(IDS).logits, tiny.make("llama")(IDS).logits)
    assert its.encode("hi<|im_end|>") == [104, 105, 260]
    assert model.generation_config.eos_token_id == [258, 260]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]  # nothing half-written beside it
    assert not list(saved.glob("*.bin"))
    wide, _ = load.load_model(str(saved), dtype="bfloat16")
    assert wide.dtype == torch.bfloat16
    again, _ = load.load_model(save.save_model(wide, its, saved))  # overwrites a model; keeps its dtype
    assert again.dtype == torch.bfloat16
    same, given = load.load_model(model, tokenizer=its)
    assert (same, given) == (model, its)
    assert load.load_model(model)[1].encode("a") == [97]  # found by where the model came from


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(UserError, match="no model"):
        save.save_model(tiny.make("llama"), None, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("targets", ["all-linear", ("lm_head",)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapters(kind, targets, tmp_path):
    base = save.save_model(tiny.make(kind), tokenizer.byte_level(), tmp_path / "base")
    model, its = load.load_model(base)
    plain = model(IDS).logits
    adapted = lora.add_lora(model, lora.LoraConfig(rank=4, targets=targets))
    assert torch.equal(adapted(IDS).logits, plain)  # a fresh adapter does nothing
    assert lora.is_adapted(adapted)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02)
    logits = adapted(IDS).logits
    assert (logits - plain).abs().max() > 1e-3
    folder = save.save_model(adapted, its, tmp_path / "adapter")
    assert not (folder / "config.json").exists()
    again, _ = load.load_model(folder)
    assert torch.equal(again(IDS).logits, logits)
    assert {name for name, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in adapted.named_parameters() if p.requires_grad
    }
    assert torch.equal(load.load_model(base, adapter=folder)[0](IDS).logits, logits)
    merged = AutoModelForCausalLM.from_pretrained(save.export_merged(again, its, tmp_path / "merged")).eval()
    torch.testing.assert_close(merged(IDS).logits, logits, rtol=1e-4, atol=1e-4)


def test_lora_refusals_and_seeds():
    with pytest.raises(UserError, match=r"no module 'q_prj'; did you mean 'q_proj'"):
        lora.add_lora(tiny.make("llama"), lora.LoraConfig(targets=("q_prj",)))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = (lora.add_lora(tiny.make("llama")).state_dict() for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    model = tiny.make("llama")
    assert lora.merge(model) is model


def test_pickled_weights_are_refused(saved, tmp_path):
    model = tiny.make("llama")
    (saved / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        load.load_model(saved)
    torch.save(model.state_dict(), saved / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickled weights \(pytorch_model.bin\)"):
        load.load_model(saved)
    with pytest.raises(UserError, match="unpickling runs code"):
        load.load_model(saved / "pytorch_model.bin")
    base = save.save_model(model, tokenizer.byte_level(), tmp_path / "base")
    folder = save.save_model(lora.add_lora(load.load_model(base)[0]), None, tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match=r"pickled weights \(adapter_model.bin\)"):
        load.load_model(folder)


def test_broken_folders(saved, tmp_path, monkeypatch):
    config = json.loads((saved / "config.json").read_text())

    def write(**fields):
        (saved / "config.json").write_text(json.dumps(config | fields))

    cases = [
        ({"model_type": "lama"}, "model type 'lama' is unknown to transformers; did you mean 'llama'"),
        ({"model_type": "bert_of_mars"}, "'bert_of_mars' is unknown"),
        ({"model_type": "vit"}, "no causal language model"),
        ({"model_type": "mars", "auto_map": {"AutoConfig": "x.Y"}}, "trust_remote_code"),
        ({"num_hidden_layers": 3}, "weights are missing from its files, the first 'model.layers.2"),
        ({"vocab_size": 300}, "cannot be loaded"),
    ]
    for fields, message in cases:
        write(**fields)
        with pytest.raises(UserError, match=message):
            load.load_model(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        load.load_model(saved)
    write()
    (saved / "model.safetensors").write_bytes(b"\x08\x00\x00")
    with pytest.raises(UserError, match="cannot be loaded"):
        load.load_model(saved)
    (saved / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        load.load_model(saved)
    for name in ("./nowhere", "/no/such/folder", "a/b/c"):
        with pytest.raises(UserError, match="does not exist"):
            load.load_model(name)
    with pytest.raises(UserError, match="did you mean 'bfloat16'"):
        load.load_model(saved, dtype="bfloat61")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="nor to be had from the hub"):
        load.load_model("nobody/nothing")


def test_tokenizers_and_adapters_that_do_not_fit(saved, tmp_path):
    model = tiny.make("llama")
    with pytest.raises(UserError, match="without a tokenizer"):
        load.load_model(model)
    with pytest.raises(UserError, match="263 tokens but the model only 261"):
        load.load_model(saved, tokenizer=tokenizer.byte_level("thinking"))
    bare = save.save_model(model, None, tmp_path / "bare")
    with pytest.raises(UserError, match="has no tokenizer"):
        load.load_model(bare)
    wide = save.save_model(tiny.make("llama", hidden=32), tokenizer.byte_level(), tmp_path / "wide")
    folder = save.save_model(lora.add_lora(load.load_model(wide)[0]), None, tmp_path / "adapter")
    with pytest.raises(UserError, match="does not fit the model"):
        load.load_model(saved, adapter=folder)
    with pytest.raises(UserError, match="no adapter folder"):
        load.load_model(saved, adapter=wide)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(UserError, match="names no base model"):
        load.load_model(folder)


def test_dropout_is_off_even_in_train_mode():
    model = tiny.make("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    model, _ = load.load_model(model, tokenizer=tokenizer.byte_level())
    assert not model.training
    logits = model(IDS).logits
    assert torch.equal(model.train()(IDS).logits, logits)
    opt, _ = load.load_model(tiny.make("opt", dropout=0.5, attention_dropout=0.5, layerdrop=0.5), tokenizer=tokenizer.byte_level())
    logits = opt(IDS).logits
    assert torch.equal(opt.train()(IDS).logits, logits)


def test_lora_dropout_of_a_foreign_adapter_is_off(saved, tmp_path):
    model, its = load.load_model(saved)
    foreign = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_dropout=0.5, init_lora_weights=False, target_modules="all-linear"))
    folder = save.save_model(foreign, its, tmp_path / "adapter")
    again, _ = load.load_model(folder)
    assert torch.equal(again.train()(IDS).logits, again.eval()(IDS).logits)
