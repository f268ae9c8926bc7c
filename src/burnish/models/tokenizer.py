"""Tokenizers made on the spot: raw bytes, an alphabet of characters, or a small trained byte-level BPE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from burnish.models.template_texts import END_OF_TURN, TEMPLATES
from burnish.runs.errors import UserError, did_you_mean

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"


def byte_level(chat_template: bool | str | None = True) -> PreTrainedTokenizerFast:
    """256 bytes (id = byte value) and the special tokens; every text encodes and decodes without loss.

    chat_template: True for "chatml", a name from `template_texts.TEMPLATES`, or None/False for a tokenizer without a template.
    The special tokens are <|pad|> <|bos|> <|eos|> <|im_start|> <|im_end|> (ids 256 to 260) and what the template writes besides.
    """
    letters = _byte_letters()
    core = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return _finish(core, chat_template)


def characters(alphabet: str | Iterable[str], chat_template: bool | str | None = None) -> PreTrainedTokenizerFast:
    """One token a character of `alphabet` (id = place in it), then an unknown token and the special tokens.

    A character outside the alphabet becomes <|unk|>. UserError where the alphabet is empty or names a character twice.
    """
    letters = list(alphabet)
    if not letters or len(set(letters)) != len(letters) or any(len(letter) != 1 for letter in letters):
        raise UserError("tokenizer.characters: the alphabet must be single characters, each once, and not empty")
    vocab = {letter: index for index, letter in enumerate(letters)} | {"<|unk|>": len(letters)}
    core = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<|unk|>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    return _finish(core, chat_template, unk_token="<|unk|>")


def trained(texts: Iterable[str], vocab_size: int, chat_template: bool | str | None = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `texts` (GPT-2's splitting of words), about `vocab_size` tokens with the special ones.

    Every text encodes and decodes without loss, seen or not. UserError where `vocab_size` leaves no room for the 256 bytes.
    """
    specials = _specials(chat_template)
    if vocab_size < 256 + len(specials):
        raise UserError(f"tokenizer.trained: vocab_size is {vocab_size}; the bytes and special tokens alone are {256 + len(specials)}")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(specials), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    return _finish(core, chat_template)


def end_ids(tokenizer: Any) -> tuple[int, ...]:
    """The ids that end a turn: the tokenizer's eos, then each known end-of-turn token that is one special token of its vocabulary."""
    found = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    specials = tokenizer.get_added_vocab()
    found += [specials[token] for token in END_OF_TURN if token in specials]
    return tuple(dict.fromkeys(found))


def template_named(name: str) -> str:
    """The text of a chat template of `template_texts.TEMPLATES`; UserError naming the nearest."""
    if name not in TEMPLATES:
        raise UserError(f"chat template {name!r} is unknown; {did_you_mean(name, TEMPLATES)}")
    return TEMPLATES[name][0]


def _finish(core: Tokenizer, chat_template: bool | str | None, **special: str) -> PreTrainedTokenizerFast:
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _specials(chat_template)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False, **special
    )
    made.padding_side = "left"
    if chat_template:
        made.chat_template = template_named(_template_name(chat_template))
    return made


def _template_name(chat_template: bool | str) -> str:
    return "chatml" if chat_template is True else str(chat_template)


def _specials(chat_template: bool | str | None) -> Sequence[str]:
    """The special tokens in id order; the first five are always there, so that ids do not move with the template."""
    more = TEMPLATES.get(_template_name(chat_template), ("", ()))[1] if chat_template else ()
    return tuple(dict.fromkeys((PAD, BOS, EOS, "<|im_start|>", "<|im_end|>", *more)))


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte value in byte-level BPE (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
