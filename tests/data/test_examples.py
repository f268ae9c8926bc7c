"""Loss masks on token ids, for the usual templates; over-long rows; conversations whose template drops earlier thinking."""

import types

import numpy as np
import pytest

from burnish.data.examples import Example, to_examples
from burnish.data.formats import load_rows
from burnish.models import tokenizer as tokenizers
from burnish.runs.errors import UserError


def _shown(policy, example):
    """The text with «loss»."""
    out, on = "", False
    for token, loss in zip(example.ids, example.mask.tolist()):
        out += "«" * (loss and not on) + "»" * (on and not loss) + policy.tokenizer.decode([token])
        on = loss
    return out + "»" * on


def ask(text):
    return {"role": "user", "content": text}


def _say(text, **more):
    return {"role": "assistant", "content": text, **more}


TALK = [ask("q1"), _say("a1"), ask("q2"), _say("a2")]
IM = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
EXPECTED = {
    "chatml": IM.format("q1") + "«a1<|im_end|>»\n" + IM.format("q2") + "«a2<|im_end|>»",
    "chatml_marked": IM.format("q1") + "«a1<|im_end|>»\n" + IM.format("q2") + "«a2<|im_end|>»",
    "llama3": "<|bos|>"
    + "".join(
        f"<|start_header_id|>user<|end_header_id|>\n\nq{i}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n«a{i}<|eot_id|>»"
        for i in (1, 2)
    ),
    "gemma": "<|bos|><start_of_turn>user\nq1<end_of_turn>\n<start_of_turn>model\n«a1<end_of_turn>»\n"
    "<start_of_turn>user\nq2<end_of_turn>\n<start_of_turn>model\n«a2<end_of_turn>»",
    "mistral": "<|bos|>[INST] q1 [/INST]« a1<|eos|>»[INST] q2 [/INST]« a2<|eos|>»",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_assistant_and_completion_masks(make_policy, name):
    policy = make_policy(name)
    (both,) = to_examples(load_rows([{"messages": TALK}]), policy, "assistant")
    assert _shown(policy, both) == EXPECTED[name]
    (last,) = to_examples(load_rows([{"messages": TALK}]), policy, "completion")
    assert last.ids == both.ids
    assert _shown(policy, last) == EXPECTED[name].replace("«", "").replace("»", "").replace(*_last_turn(EXPECTED[name]))
    (same,) = to_examples(load_rows([{"prompt": TALK[:3], "completion": TALK[3:]}]), policy)
    assert (same.ids, same.mask.tolist()) == (last.ids, last.mask.tolist())
    (whole,) = to_examples(load_rows([{"messages": TALK}]), policy, "all")
    assert whole.ids == both.ids
    assert whole.mask.tolist() == [False] + [True] * (len(whole.ids) - 1)


def _last_turn(text):
    marked = "«" + text.rsplit("«", 1)[1]
    return marked.strip("«»"), marked


def test_words_that_look_like_marks_do_not_move_the_mask(make_policy):
    policy = make_policy("chatml")
    tricky = [ask("<|im_start|>assistant\nno<|im_end|>"), _say("<|im_start|>user\nx<|im_end|> y")]
    (example,) = to_examples(load_rows([{"messages": tricky}]), policy)
    assert _shown(policy, example) == IM.format(tricky[0]["content"]) + "«" + tricky[1]["content"] + "<|im_end|>»"


def test_a_template_that_drops_earlier_thinking_splits_the_conversation(make_policy):
    policy = make_policy("thinking")
    thought = "<think>\nhm\n</think>\n\n"
    talk = [ask("q1"), _say(thought + "a1"), {"role": "tool", "content": "t"}, _say(thought + "b1"), ask("q2"), _say(thought + "a2")]
    examples = to_examples(load_rows([{"messages": talk}]), policy)
    tool = "\n<|im_start|>tool\nt<|im_end|>\n<|im_start|>assistant\n"
    assert [_shown(policy, one) for one in examples] == [
        IM.format("q1") + f"«{thought}a1<|im_end|>»{tool}«{thought}b1<|im_end|>»",
        IM.format("q1") + f"a1<|im_end|>{tool}b1<|im_end|>\n" + IM.format("q2") + f"«{thought}a2<|im_end|>»",
    ]
    assert (examples.report.kept, examples.report.notes) == (1, {"conversations split": 1})
    (off,) = to_examples(load_rows([{"messages": [ask("q"), _say("a")]}]), policy, template_args={"enable_thinking": False})
    assert _shown(policy, off) == IM.format("q") + "<think>\n\n</think>\n\n«a<|im_end|>»"


def test_tools_column_weights_and_opening_messages(make_policy):
    policy = make_policy("thinking")
    tools = [{"type": "function", "function": {"name": "add"}}]
    (example,) = to_examples(load_rows([{"messages": TALK[:2], "tools": tools}]), policy)
    assert "# Tools\n" in _shown(policy, example)
    chatml = make_policy("chatml")
    weighted = [ask("q1"), _say("a1", weight=0), ask("q2"), _say("a2")]
    (example,) = to_examples(load_rows([{"messages": weighted}]), chatml)
    assert _shown(chatml, example).count("«") == 1
    # nothing stands before an opening message, so nothing says which of its tokens the model would write
    opening = to_examples(load_rows([{"messages": [_say("hi"), *TALK[:2]]}]), chatml)
    assert _shown(chatml, opening[0]) == "<|im_start|>assistant\nhi<|im_end|>\n" + IM.format("q1") + "«a1<|im_end|>»"
    assert opening.report.notes == {"rows with assistant messages that cannot be trained": 1}
    with pytest.raises(UserError, match="does not tell the assistant's tokens apart"):
        to_examples(load_rows([{"messages": [_say("hi")]}]), chatml)


def test_an_end_is_added_where_the_template_writes_none(make_policy):
    policy = make_policy("chatml")
    policy.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    (example,) = to_examples(load_rows([{"messages": TALK}]), policy)
    assert _shown(policy, example) == "user: q1\nassistant: «a1\n»user: q2\nassistant: «a2\n<|eos|>»"


def test_text_rows_completion_text_and_existing_ends(make_policy):
    policy = make_policy()
    examples = to_examples(load_rows([{"prompt": "1+1=", "completion": "2"}, {"prompt": "x", "completion": "y<|eos|>"}]), policy)
    assert [_shown(policy, one) for one in examples] == ["1+1=«2<|eos|>»", "x«y<|eos|>»"]
    assert [_shown(policy, one) for one in to_examples(load_rows([{"text": "abc"}]), policy)] == ["a«bc<|eos|>»"]
    assert examples.report.summary() == "data: 2 of 2 rows kept"


def test_too_long_rows_are_dropped_cut_or_refused_and_always_counted(make_policy):
    rows = load_rows(
        [{"prompt": "1234", "completion": "5"}, {"prompt": "12", "completion": "3" * 9}, {"prompt": "1" * 9, "completion": "2"}]
    )
    policy = make_policy(max_length=8)
    dropped = to_examples(rows, policy)
    assert [one.where for one in dropped.report.skipped] == ["data:row 2", "data:row 3"]
    assert dropped.report.skipped[0].reason == "the row has 12 tokens, at most 8 fit"
    cut = to_examples(rows, policy, max_length=7, too_long="truncate")
    assert [_shown(policy, one) for one in cut] == ["1234«5<|eos|>»", "12«33333»"]
    assert cut.report.notes == {"truncated": 1}
    assert cut.report.skipped[0].reason == "no token to learn from is left of 11 tokens, at most 7 fit"
    with pytest.raises(UserError, match=r"data:row 2: the row has 12 tokens, at most 8 fit; shorten it, or set too_long"):
        to_examples(rows, policy, too_long="refuse")
    with pytest.raises(UserError, match="must lie between 2 and the model's context of 8"):
        to_examples(rows, policy, max_length=9)
    with pytest.raises(UserError, match="no row is left of 3"):
        to_examples(rows, policy, max_length=2)


@pytest.mark.parametrize(
    ("row", "loss_on", "chat_template", "reason"),
    [
        ({"prompt": "x"}, "auto", None, "there is no column 'completion' to learn from; columns there: prompt"),
        ({"text": "x"}, "completion", None, "plain text has no completion; set loss_on to 'all'"),
        ({"prompt": "x", "completion": "y"}, "assistant", None, "data:row 1: text rows have no assistant messages"),
        ({"messages": [ask("q")]}, "auto", "chatml", "data:row 1: the row has no token to learn from"),
        ({"messages": TALK}, "asistant", "chatml", "did you mean 'assistant'"),
        ({"messages": TALK[1:]}, "auto", "gemma", "data:row 1: .*must alternate"),
        ({"messages": TALK}, "auto", None, "template"),
    ],
)
def test_refusals(make_policy, row, loss_on, chat_template, reason):
    with pytest.raises(UserError, match=reason):
        to_examples(load_rows([row]), make_policy(chat_template), loss_on)


def test_bad_conversations_can_be_skipped_and_unknown_tokens_are_noted(make_policy):
    rows = load_rows([{"messages": TALK}, {"messages": [ask("q")]}])
    examples = to_examples(rows, make_policy("chatml"), bad_rows="skip")
    assert (examples.report.kept, len(examples.report.skipped)) == (1, 1)
    policy = make_policy(tokenizer=tokenizers.characters("ab"))
    assert to_examples(load_rows([{"prompt": "a", "completion": "b?"}]), policy).report.notes == {"rows with unknown tokens": 1}
    endless = types.SimpleNamespace(tokenizer=policy.tokenizer, eos_ids=(), max_length=9)
    with pytest.raises(UserError, match="no end-of-sequence token"):
        to_examples(load_rows([{"prompt": "a", "completion": "b"}]), endless)


def test_an_example_never_puts_loss_on_its_first_token():
    assert Example([1, 2], np.array([True, True])).mask.tolist() == [False, True]
    with pytest.raises(ValueError, match=r"example.mask has shape"):
        Example([1, 2], np.array([True]))
