"""The fields of TRL's SFTConfig beside the common ones, their defaults, and what becomes of each."""

from __future__ import annotations

from burnish.recipes.trl.fields import Field, Json, idle, mapped, refused

SFT: tuple[Field, ...] = (
    mapped("learning_rate", float, 2e-5, "sft.learning_rate"),
    refused("chat_template_path", str | None, None, "set tokenizer.chat_template and pass the tokenizer as processing_class"),
    mapped("dataset_text_field", str, "text", "the column that holds plain text"),
    refused("dataset_kwargs", Json, None, "give rows of text or messages; they are encoded here"),
    idle("dataset_num_proc", int | None, None, "rows are encoded in this process"),
    refused("eos_token", str | None, None, "set tokenizer.eos_token and pass the tokenizer as processing_class"),
    mapped("max_length", int | None, 1024, "longer examples are cut; dropped where no loss token is left"),
    mapped("truncation_mode", str, "keep_start", "keep_start or keep_end"),
    idle("shuffle_dataset", bool, False, "rows come in a new order each epoch in any case"),
    mapped("packing", bool, False, "a step holds as many examples as fit into its batch size times max_length; they never see each other"),
    mapped("packing_strategy", str, "bfd", "with packing only bfd: examples are kept whole"),
    idle("padding_free", bool, False, "padding is never read"),
    idle("eval_packing", bool | None, None, "the loss of an example does not depend on its neighbours"),
    mapped("completion_only_loss", bool | None, None, "unset: True for rows with prompt and completion"),
    mapped("assistant_only_loss", bool, False, "loss on the assistant's messages only"),
    mapped("loss_type", str, "nll", "nll or chunked_nll (the same); dft is refused"),
    idle("activation_offloading", bool, False, "memory only"),
    idle("pad_token", str | None, None, "padding is never read"),
)
