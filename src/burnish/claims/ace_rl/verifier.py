"""The self-verifier: a classifier head on the frozen start model, trained on the documents of the SFT data and the program's grades."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from burnish.claims.ace_rl.world import CODES, Task, grade
from burnish.data.ace_rl.checklist import Requirement
from burnish.models.policy import Policy
from burnish.rl.rewards.ace_rl.grades import GRADES, Grade
from burnish.rl.rewards.ace_rl.judges import Failed, Question
from burnish.runs.seeds import seed_for

WORTH = (1.0, 0.5, 0.0)


@torch.no_grad()
def read(policy: Policy, texts: Sequence[str]) -> Tensor:
    """float32 [texts, features]: of every layer the mean over the text, of the last layer its last place; and the length in hundreds."""
    out = []
    for text in texts:
        ids = torch.tensor([policy.encode(text)], device=policy.device)
        found = policy.model(input_ids=ids, output_hidden_states=True, logits_to_keep=1).hidden_states
        states = [layer[0].float().mean(0) for layer in found] + [layer[0].float().sum(0) / 10 for layer in found[:1]]
        out.append(torch.cat([*states, found[-1][0, -1].float(), torch.tensor([len(text) / 100], device=policy.device)]))
    return torch.stack(out)


def make_head(features: int) -> nn.Module:
    """Features -> three grades for every requirement there is [texts, 3 * codes]."""
    return nn.Sequential(nn.Linear(features, 128), nn.SiLU(), nn.Linear(128, len(GRADES) * len(CODES)))


def train_head(policy: Policy, taught: Sequence[tuple[Task, str]], numbers: dict[str, Any], seed: int, path: Path) -> None:
    """Every document is graded for every requirement there is, whether its prompt asked for it or not. Writes head and scale to `path`."""
    texts = [text for _, text in taught if text]
    inputs = read(policy, texts)
    labels = torch.tensor([[WORTH.index(grade(code, text)) for code in CODES] for text in texts])
    centre, width = inputs.mean(0), inputs.std(0) + 1e-3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("ace-rl head", seed) % 2**63)
        head = make_head(inputs.shape[1])
        optimizer = torch.optim.AdamW(head.parameters(), lr=numbers["rate"], weight_decay=0.01)
        for _ in range(numbers["steps"]):
            rows = torch.randint(len(texts), (numbers["batch"],))
            logits = head((inputs[rows] - centre) / width).view(len(rows), len(CODES), len(GRADES))
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels[rows].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    save_file({"centre": centre, "width": width, **{f"head.{name}": value for name, value in head.state_dict().items()}}, path)


@dataclasses.dataclass
class SelfVerifier:
    """A judge: the head of `path` on the policy, which is the start checkpoint and stays as it is. All items of a text from one pass."""

    policy: Policy
    path: Path
    id: str = "self-verifier"
    cached: bool = True

    def __post_init__(self) -> None:
        found = load_file(self.path)
        self.centre, self.width = found["centre"], found["width"]
        self.head = make_head(len(self.centre))
        self.head.load_state_dict({name.removeprefix("head."): value for name, value in found.items() if name.startswith("head.")})

    @torch.no_grad()
    def grade(self, questions: Sequence[Question], again: bool = False) -> list[Grade | Failed]:
        """The likeliest grade of each."""
        texts = list(dict.fromkeys(question.text for question in questions))
        logits = self.head((read(self.policy, texts) - self.centre) / self.width).view(len(texts), len(CODES), len(GRADES))
        best = dict(zip(texts, logits.argmax(-1).tolist()))
        return [GRADES[best[question.text][CODES.index(question.item.text)]] for question in questions]

    def metrics(self) -> dict[str, float]:
        """None of its own."""
        return {}

    def right(self, taught: Sequence[tuple[Task, str]]) -> float:
        """The share of grades, of the requirements that were asked, that are the program's."""
        asked = [Question(text, Requirement(code, "", code), task.prompt) for task, text in taught if text for code in task.codes]
        found = self.grade(asked)
        exact = [grade(question.item.text, question.text) for question in asked]
        return sum(one == GRADES[WORTH.index(right)] for one, right in zip(found, exact)) / len(asked)
