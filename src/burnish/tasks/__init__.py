"""Problems with exact verifiers, and held-out evaluation."""

from burnish.tasks.completions import Completions, Reward
from burnish.tasks.scoring import reward, to_items
from burnish.tasks.task import Draft, Problem, Task, constant_baseline

__all__ = ["Completions", "Draft", "Problem", "Reward", "Task", "constant_baseline", "reward", "to_items"]
