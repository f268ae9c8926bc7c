"""ACE-RL's checklists: their form, and how a chat model writes them (arXiv 2509.04903)."""

from burnish.data.ace_rl.checklist import Checklist, Requirement, load
from burnish.data.ace_rl.writer import BUILD, build

__all__ = ["Checklist", "Requirement", "build", "load"]

actions = {"build": BUILD}
