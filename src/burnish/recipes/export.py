"""`burnish export`: a run's model as a plain Hugging Face folder, its adapter merged, with a model card; pushed where asked."""

from __future__ import annotations

from pathlib import Path

from burnish.models.load import load_model
from burnish.models.save import export_merged, refuse_target
from burnish.reports.card import model_card
from burnish.runs import atomic, checkpoints
from burnish.runs.errors import UserError


def export(run: str | Path, output: str | Path, checkpoint: str = "best", push: str | None = None, private: bool = True) -> Path:
    """Writes the model of a run folder (or of a model or adapter folder) to `output`.

    checkpoint: "best" (the newest where no evaluation picked one), "last" or a step number. push: hub id to upload to.
    Raises UserError where there is no such checkpoint, or where the hub refuses.
    """
    run = Path(run)
    if not run.is_dir():
        raise UserError(f"there is no folder {run}; give a run folder, or a model or adapter folder")
    refuse_target(output)
    is_run = (run / "config.yaml").exists()
    source = pick(run, checkpoint) if is_run else run
    model, tokenizer = load_model(str(source))
    path = export_merged(model, tokenizer, output)
    if is_run:
        step = int(source.name.rpartition("-")[2])
        atomic.write_text(path / "README.md", model_card(run, name=path.name, facts={"checkpoint": source.name}, step=step))
    if push:
        upload(path, push, private)
    return path


def pick(run: Path, which: str) -> Path:
    """The folder of a checkpoint."""
    steps = checkpoints.steps(run)
    if not steps:
        raise UserError(f"{run} holds no finished checkpoint; train it first, or resume it")
    if which == "last":
        return run / f"checkpoint-{steps[-1]}"
    if which == "best":
        best = (checkpoints.head(run / f"checkpoint-{steps[-1]}") or {}).get("best_step")
        return run / f"checkpoint-{best if best in steps else steps[-1]}"
    if not which.isdigit() or int(which) not in steps:
        raise UserError(f"{run} has no checkpoint {which!r}; there are: best, last, {', '.join(map(str, steps))}")
    return run / f"checkpoint-{which}"


def upload(path: Path, repo: str, private: bool) -> None:
    """Pushes the folder to the hub. The token comes from the environment or the hub's own login and is never shown."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(folder_path=str(path), repo_id=repo)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(f"the hub refused {repo!r}: {' '.join(str(error).split())[:300]}; the model is in {path}") from None
