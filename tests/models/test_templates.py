"""Chat templates: rendering, and which ids the assistant wrote, found on token ids."""

import numpy as np
import pytest

from burnish.models import template, tokenizer
from burnish.models.template_texts import TEMPLATES
from burnish.runs.errors import UserError

TALK = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "and 3+3? Not 4<|im_end|>!"},
    {"role": "assistant", "content": "6, of course"},
]
THOUGHT = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "<think>\neasy\n</think>\n\n4"},
    {"role": "user", "content": "3+3?"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\n6"},
]
END = {"chatml": "<|im_end|>", "chatml_marked": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "mistral": "<|eos|>"}


def parts(made, ids, mask):
    """The texts of the masked stretches."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [made.decode(ids[a:b]) for a, b in zip(edges[::2], edges[1::2])]


def seen(made, messages, ids, mask, **args):
    """Each trained stretch stands after exactly the prompt the model would be given."""
    starts = np.flatnonzero(mask & ~np.concatenate([[False], mask[:-1]]))
    prompts = [
        template.render(made, messages[:i], None, add_generation_prompt=True, **args)
        for i, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    return all(ids[:start] in prompts for start in starts)


@pytest.mark.parametrize("name", END)
def test_usual_templates(name):
    made = tokenizer.byte_level(name)
    ids, mask = template.assistant_mask(made, TALK)
    assert ids == template.render(made, TALK, add_generation_prompt=False)
    space = " " if name == "mistral" else ""
    assert parts(made, ids, mask) == [f"{space}4{END[name]}", f"{space}6, of course{END[name]}"]
    assert seen(made, TALK, ids, mask)
    (example,), dropped = template.assistant_examples(made, TALK)
    assert example[0] == ids[: len(example[0])]
    assert example[1][-1]
    assert example[1].sum() == mask.sum()
    assert dropped == []


@pytest.mark.parametrize("args", [{}, {"enable_thinking": True}, {"enable_thinking": False}])
def test_a_template_that_drops_earlier_thinking(args):
    made = tokenizer.byte_level("thinking")
    ids, mask = template.assistant_mask(made, THOUGHT, **args)
    off = args.get("enable_thinking") is False
    assert "easy" not in made.decode(ids)
    if off:  # an empty thought in the prompt, a full one in the data: neither message is what the model would have said there
        assert not mask.any()
    else:
        assert parts(made, ids, mask) == ["<think>\nhm\n</think>\n\n6<|im_end|>"]
    examples, dropped = template.assistant_examples(made, THOUGHT, **args)
    assert dropped == ([1, 3] if off else [])
    if not off:
        assert [parts(made, *example) for example in examples] == [
            ["<think>\neasy\n</think>\n\n4<|im_end|>"],
            ["<think>\nhm\n</think>\n\n6<|im_end|>"],
        ]
    assert all(seen(made, THOUGHT, *example, **args) for example in examples)


def test_answers_without_thought():
    made = tokenizer.byte_level("thinking")
    examples, dropped = template.assistant_examples(made, TALK, enable_thinking=False)
    assert [parts(made, *example) for example in examples] == [["4<|im_end|>"], ["6, of course<|im_end|>"]]
    assert all(seen(made, TALK, *example, enable_thinking=False) for example in examples)
    assert dropped == []


def test_a_token_that_spans_the_prompts_end_is_not_made():
    made = tokenizer.trained(["assistant\n\n\n\nfoo\n\n\n\n"] * 50, 400)
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "\n\nfoo"}]
    prompt = template.render(made, talk[:1])
    ids, mask = template.assistant_mask(made, talk)
    assert ids[: len(prompt)] != prompt  # "\n" and "\n\n" have merged across the border
    assert not mask.any()
    ((ids, mask),), dropped = template.assistant_examples(made, talk)
    assert ids[: len(prompt)] == prompt
    assert parts(made, ids, mask) == ["\n\nfoo<|im_end|>"]
    assert dropped == []


def test_tool_turns_and_tools():
    made = tokenizer.byte_level("thinking")
    talk = [THOUGHT[0], {"role": "assistant", "content": "<think>\nask\n</think>\n\ncall"}, {"role": "tool", "content": "4"}, THOUGHT[1]]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    ids, mask = template.assistant_mask(made, talk, tools)
    assert '"name": "add"' in made.decode(ids)
    assert parts(made, ids, mask) == ["<think>\nask\n</think>\n\ncall<|im_end|>", "<think>\neasy\n</think>\n\n4<|im_end|>"]
    assert template.render_text(made, talk, tools) == made.decode(template.render(made, talk, tools))


def test_marks_of_the_template_are_kept():
    made = tokenizer.byte_level("chatml_marked")
    made.chat_template = made.chat_template.replace(
        "{{- message.content + '<|im_end|>' }}{%- endgeneration %}", "{{- message.content }}{%- endgeneration %}{{- '<|im_end|>' }}"
    )
    ids, mask = template.assistant_mask(made, TALK)
    assert parts(made, ids, mask) == ["4", "6, of course"]


def test_refusals():
    bare = tokenizer.byte_level(None)
    with pytest.raises(UserError, match="no chat template"):
        template.render(bare, TALK)
    bare.eos_token = bare.pad_token = None
    with pytest.raises(UserError, match="no end-of-sequence token"):
        template.require(bare, eos=True)
    with pytest.raises(UserError, match="no pad token"):
        template.require(bare, pad=True)
    made = tokenizer.byte_level("thinking")
    with pytest.raises(UserError, match="did you mean 'enable_thinking'"):
        template.render(made, TALK, enable_thinkng=False)
    gemma = tokenizer.byte_level("gemma")
    with pytest.raises(UserError, match="System role not supported"):
        template.render(gemma, [{"role": "system", "content": "x"}, *TALK])
    with pytest.raises(UserError, match="not read by this model's chat template"):
        template.render(gemma, TALK, enable_thinking=False)
    gemma.chat_template = "{% if %}"
    with pytest.raises(UserError, match="refuses the messages"):
        template.render(gemma, TALK)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_ends_generation_with_a_known_token(name):
    made = tokenizer.byte_level(name)
    ids, mask = template.assistant_mask(made, TALK[:2])
    assert ids[np.flatnonzero(mask)[-1]] in tokenizer.end_ids(made)
