"""Tiny models of every kind and the tokenizers made on the spot."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.models import tiny, tokenizer
from burnish.models.needs import Need, Reduce, Term, union
from burnish.runs.errors import UserError

torch.set_num_threads(1)
TEXTS = ["", "Héllo\n\n  <|im_end|>x  'tis 你好\x00\u00ff  a  ", "\r\n\t🙂 don't", "<|pad|><|eos|>", "".join(map(chr, range(256)))]


@pytest.mark.parametrize("made", [tokenizer.byte_level(), tokenizer.trained(["the cat sat on the mat, don't it? "] * 20, 300)])
def test_every_text_comes_back(made, tmp_path):
    for text in TEXTS:
        assert made.decode(made.encode(text)) == text
    made.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert [again.encode(text) for text in TEXTS] == [made.encode(text) for text in TEXTS]
    assert again.chat_template == made.chat_template
    assert tokenizer.end_ids(again) == tokenizer.end_ids(made)


def test_byte_level_ids_are_the_bytes():
    made = tokenizer.byte_level()
    assert made.encode("é\n") == list("é\n".encode())
    assert (made.pad_token_id, made.bos_token_id, made.eos_token_id) == (256, 257, 258)
    assert tokenizer.end_ids(made) == (258, 260)
    assert tokenizer.byte_level(None).chat_template is None
    with pytest.raises(UserError, match="did you mean 'llama3'"):
        tokenizer.byte_level("lama3")


def test_characters():
    made = tokenizer.characters("ab +=\n")
    assert made.encode("a+ b\n") == [0, 3, 2, 1, 5]
    assert made.decode(made.encode("a+ b\n")) == "a+ b\n"
    assert made.encode("z") == [made.unk_token_id]
    with pytest.raises(UserError, match="each once"):
        tokenizer.characters("aa")
    with pytest.raises(UserError, match="vocab_size is 10"):
        tokenizer.trained(["a"], 10)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_kinds_repeat_and_leave_the_random_state_alone(kind, tmp_path):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    model, twin, other = tiny.make(kind), tiny.make(kind), tiny.make(kind, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    ids = torch.arange(12).view(2, 6)
    logits = model(ids).logits
    assert logits.shape == (2, 6, 261)
    assert torch.equal(logits, twin(ids).logits)
    assert not torch.equal(logits, other(ids).logits)
    assert model.generation_config.eos_token_id == model.config.eos_token_id == [258, 260]
    assert model.config.pad_token_id == model.generation_config.pad_token_id == 256
    assert model.config.tie_word_embeddings == (kind in ("gemma2", "gpt2", "opt"))
    torch.testing.assert_close(tiny.make(kind, dtype=torch.float64)(ids).logits.float(), logits, rtol=1e-3, atol=1e-4)
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).eval()(ids).logits, logits)
    twin.train()
    assert torch.equal(twin(ids).logits, logits)  # no dropout anywhere


@pytest.mark.parametrize("kind", tiny.WINDOWED)
def test_windows_cut_the_view(kind):
    model = tiny.make(kind, window=4, layers=1, initializer_range=0.5)
    ids = torch.arange(10)[None]
    changed = ids.clone()
    changed[0, 0] = 99
    gap = (model(ids).logits - model(changed).logits).abs().amax(-1)[0]
    assert gap[3] > 1e-6
    assert gap[4:].max() == 0
    assert (
        tiny.make(kind, layers=1, initializer_range=0.5)(ids).logits - tiny.make(kind, layers=1, initializer_range=0.5)(changed).logits
    )[0, 9].abs().max() > 1e-6


def test_refusals():
    with pytest.raises(UserError, match="did you mean 'qwen3'"):
        tiny.make("qwen")
    with pytest.raises(UserError, match="no sliding window"):
        tiny.make("gpt2", window=4)
    with pytest.raises(UserError, match="multiple of heads"):
        tiny.make("llama", hidden=30)
    with pytest.raises(UserError, match="smaller than the tokenizer"):
        tiny.make("llama", vocab=100)


def test_needs_have_keys_and_unite():
    def novelty(hidden, head, ids, mask):
        return 0

    assert Need().key == "policy.logp"
    assert Need(what=novelty) == Need(what=Reduce(novelty))
    assert (Need(what=novelty).kind, Need(what=Term(novelty)).kind) == ("reduce", "term")
    assert Need("reference", context=novelty, name="x").key == "x"
    both = union([Need(), Need("reference")], [Need(), Need(what="entropy")])
    assert [need.key for need in both] == ["policy.logp", "reference.logp", "policy.entropy"]
    with pytest.raises(UserError, match="share the key 'x'"):
        union([Need(name="x"), Need(what="entropy", name="x")])
    with pytest.raises(UserError, match="what='logits' is unknown"):
        Need(what="logits")
    with pytest.raises(UserError, match="lambda needs a name"):
        Need(what=lambda *a: 0)
