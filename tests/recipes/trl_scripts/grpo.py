"""A script as a TRL user writes it: GRPO with two reward functions, one of which reads a column of the data."""

import sys

from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

model, output = sys.argv[1:3]

rows = [{"prompt": [{"role": "user", "content": f"{a}+{b}="}], "answer": str(a + b), "hard": a > 2} for a in range(4) for b in range(3)]
dataset = Dataset.from_list(rows)


def reward_answer(prompts, completions, answer, hard, log_metric, **kwargs):
    assert len(prompts) == len(completions) == len(answer) == len(hard)
    log_metric("hard_share", sum(hard) / len(hard))
    texts = [completion[0]["content"] for completion in completions]
    return [float(text.strip() == gold) + 0.1 * len(set(text)) for text, gold in zip(texts, answer)]


def reward_short(completions, completion_ids, trainer_state, **kwargs):
    assert trainer_state.max_steps == 3
    return [-len(ids) / 12 if ids else None for ids in completion_ids]


class Counts(TrainerCallback):
    steps = logs = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs += 1


counts = Counts()
args = GRPOConfig(
    output_dir=output,
    learning_rate=1e-3,
    per_device_train_batch_size=8,
    gradient_accumulation_steps=2,
    num_generations=4,
    max_completion_length=12,
    max_steps=3,
    logging_steps=1,
    save_steps=2,
    eval_strategy="steps",
    eval_steps=3,
    reward_weights=[1.0, 0.5],
    bf16=False,
    report_to="tensorboard",
    seed=3,
)
trainer = GRPOTrainer(
    model=model,
    reward_funcs=[reward_answer, reward_short],
    args=args,
    train_dataset=dataset,
    eval_dataset=dataset.select(range(4)),
    callbacks=[counts],
)
found = trainer.train()
trainer.save_model(f"{output}-final")
assert counts.steps == 3
assert counts.logs >= 4
assert found.global_step == 3
print(sorted(key for row in trainer.state.log_history for key in row))
