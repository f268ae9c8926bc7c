"""The generator process of a run with rl.processes 2: `python -m burnish.recipes.generator RUN_FOLDER`, started by the learner.

It makes model, data and parts from the run's own config.yaml, and works until the learner closes its standard input, or is gone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.pipeline import FOLDER
from burnish.recipes.policy import COPIES
from burnish.recipes.rl import build_objective, build_source
from burnish.recipes.train import items_of, load_inputs
from burnish.rl.measure import Measurer, models_of
from burnish.rl.pipeline.generator import Generator
from burnish.rl.pipeline.link import FAILED, USER_ERROR, Inbox, lock, own_input
from burnish.rl.source import Source
from burnish.runs import atomic
from burnish.runs.config import build
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything


def source_of(config: TrainConfig) -> Source:
    """The Source of a run, with model, data and parts of its own."""
    rl = config.rl
    if rl.generator_device is not None:
        config = config.model_copy(update={"model": config.model.model_copy(update={"device": rl.generator_device})})
    if config.data is None or not config.model.path:
        raise UserError("the run's config names no data.path or no model.path, so a second process cannot make them; set rl.processes to 1")
    inputs = load_inputs(config)
    seed_everything(config.seed)
    models: dict[str, Policy] = {"policy": inputs.policy}
    measurer = Measurer(models, micro_tokens=rl.micro_tokens, share_prefix=rl.share_prefix)
    items = items_of(config, inputs.policy, inputs.rows, rl.group_size)
    source = build_source(config, inputs.policy, items, measurer, build_objective(rl), None)
    needs = [need for part in (source.reward, *source.shapers) for need in getattr(part, "needs", ())]
    models |= {name: make(inputs.policy) for name, make in COPIES.items() if name in models_of(needs)}
    measurer.check(needs)
    return source


def main(folder: Path) -> int:
    """Serves the run in this folder. Returns only where it cannot."""
    stream, spool = own_input(), folder / FOLDER
    made: list[Generator] = []

    def heard() -> None:
        for one in made:
            one.heard()

    inbox = Inbox(stream, heard)
    inbox.start()
    try:
        held = lock(spool)
        config = build(TrainConfig, Run(folder).config, str(folder))
        generator = Generator(source_of(config), spool, config.rl.lag, config.rl.steps, inbox)
        made.append(generator)
        try:
            generator.serve()
        finally:
            made.clear()
            generator.close()
            held.close()
    except UserError as error:
        atomic.write_text(spool / FAILED, json.dumps({"error": str(error)}) + "\n")
        print(f"burnish: {error}", file=sys.stderr)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
