"""Write completions of prompts.

burnish generate MODEL "2+2="                     one completion, printed as it comes
burnish generate MODEL --file prompts.jsonl --n 4 four for each prompt of a file
burnish generate MODEL "Hello" --chat             through the chat template
"""

from __future__ import annotations

import argparse
import sys

HELP = "completions of prompts, from the command line or a file"
TAKES_FLAGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model and prompts; all other fields are flags (--sampling.temperature 0, --max_new_tokens 64)."""
    parser.add_argument("model", help="local folder, hub id or adapter folder")
    parser.add_argument("prompt", nargs="*", help="prompts")
    parser.add_argument("--file", help="a file with prompts: JSONL with a prompt column, or one prompt a line")
    parser.add_argument("--chat", action="store_true", help="put text prompts through the chat template")
    parser.add_argument("--n", type=int, default=1, help="completions for each prompt")


def run(args: argparse.Namespace) -> None:
    """Generates and prints."""
    from burnish.recipes.evaluate import EvalRunConfig, complete, json_line, prompts_of
    from burnish.recipes.policy import load_policy
    from burnish.recipes.refusals import refuse_model
    from burnish.runs.config import load_config
    from burnish.runs.errors import UserError

    prompts = prompts_of(args.prompt, args.file)
    if not prompts:
        raise UserError("burnish generate: there is no prompt; give one after the model, or --file")
    if args.n < 1:
        raise UserError(f"--n is {args.n}; it must be at least 1")
    config = load_config(EvalRunConfig, None, [f"--model.path={args.model}", *args.flags], args.options)
    refuse_model(config.model)
    policy = load_policy(config.model, threads=config.threads)
    live = not args.json and len(prompts) == 1 and args.n == 1 and sys.stdout.isatty()

    def show(event, prompt: int, sample: int) -> None:
        print(policy.decode([event.token]), end="", flush=True)

    texts = complete(policy, prompts, config, args.chat, args.n, show if live else None)
    if live:
        print()
        return
    for prompt, group in zip(prompts, texts):
        if args.json:
            print(json_line(prompt, group))
            continue
        for text in group:
            print(f"{prompt if isinstance(prompt, str) else prompt[-1]['content']}\n-> {text}\n")
