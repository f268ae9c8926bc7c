"""A policy without a model: what encoding needs, and nothing else."""

import dataclasses
from typing import Any

import pytest

from burnish.models import template
from burnish.models import tokenizer as tokenizers


@dataclasses.dataclass
class TokenizerPolicy:
    tokenizer: Any
    max_length: int = 512

    @property
    def eos_ids(self):
        return tokenizers.end_ids(self.tokenizer)

    def encode(self, prompt, tools=None, **template_args):
        if isinstance(prompt, str):
            return self.tokenizer(prompt)["input_ids"]
        return template.render(self.tokenizer, prompt, tools, **template_args)


@pytest.fixture
def make_policy():
    """make(chat_template=None, max_length=512, tokenizer=None): bytes with the template, or the given tokenizer."""

    def make(chat_template=None, tokenizer=None, **fields):
        return TokenizerPolicy(tokenizers.byte_level(chat_template) if tokenizer is None else tokenizer, **fields)

    return make
