"""Peak memory of the log-prob pass, forward and backward, against the logits it never holds.

    python -m benchmarks.memory [--tokens 4096] [--hidden 256] [--vocabulary 152000] [--json FILE]

Float32, log-probs and entropy, in a process of its own; the weight and its gradient are resident before and do not count.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

import torch
from benchmarks.provenance import provenance

from burnish.models import heads, logprobs

WANTED = 0.1


class Owner(torch.nn.Module):
    """A model that is only a head."""

    def __init__(self, hidden: int, vocabulary: int):
        super().__init__()
        self.lm_head = torch.nn.Linear(hidden, vocabulary, bias=False)

    def get_output_embeddings(self) -> torch.nn.Module:
        """The head."""
        return self.lm_head


def measure(tokens: int, hidden: int, vocabulary: int) -> dict[str, Any]:
    """Bytes of this process's peak above what stood before the pass; run it in a fresh process."""
    torch.set_num_threads(1)
    owner = Owner(hidden, vocabulary)
    owner.lm_head.weight.grad = torch.ones_like(owner.lm_head.weight)  # resident once, so that it counts as before
    owner.lm_head.weight.grad = None
    states = torch.randn(tokens, hidden, requires_grad=True)
    ids = torch.randint(0, vocabulary, (tokens,))
    before = _peak()
    found = logprobs.token_values(heads.Head(owner), states, ids, ("logp", "entropy"), grad=True)
    torch.stack([value.mean() for value in found.values()]).sum().backward()
    above, full = _peak() - before, tokens * vocabulary * 4
    return {"tokens": tokens, "hidden": hidden, "vocabulary": vocabulary, "peak_bytes": above, "logits_bytes": full, "share": above / full}


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=152_000)
    parser.add_argument("--json", help="write the figures there")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = (args.tokens, args.hidden, args.vocabulary)
    if args.inside:
        print(json.dumps(measure(*sizes)))
        return
    command = [sys.executable, "-m", "benchmarks.memory", "--inside"]
    command += [f"--{name}={size}" for name, size in zip(("tokens", "hidden", "vocabulary"), sizes)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    share, mib = found["share"], found["peak_bytes"] / 2**20
    print(f"{args.tokens} tokens, hidden {args.hidden}, vocabulary {args.vocabulary}: peak {mib:.0f} MiB above parameters and gradients,")
    print(f"{share:.1%} of the full logits tensor; wanted at most {WANTED:.0%}: {'met' if share <= WANTED else 'missed'}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"provenance": provenance(), "memory": found}, file, indent=1)


if __name__ == "__main__":
    main()
