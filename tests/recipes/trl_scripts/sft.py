"""A script as a TRL user writes it: fine-tuning on prompts and completions."""

import sys

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

model, output = sys.argv[1:3]

rows = [{"prompt": f"{a}+{b}=", "completion": str(a + b), "source": "made"} for a in range(6) for b in range(4)]
dataset = Dataset.from_list(rows).train_test_split(test_size=4, seed=1)

trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=output,
        per_device_train_batch_size=4,
        num_train_epochs=1,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        logging_steps=2,
        eval_strategy="epoch",
        save_strategy="epoch",
        bf16=False,
        report_to="tensorboard",
    ),
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
)
trainer.train()
print(sorted(trainer.evaluate()))
trainer.save_model(f"{output}-final")
print(sorted(key for row in trainer.state.log_history for key in row))
