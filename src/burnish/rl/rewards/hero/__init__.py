"""HERO: the verifier decides who is right, a reward model ranks the right and the wrong among themselves (arXiv 2510.07242)."""

from burnish.rl.rewards.hero.baselines import Blend, GatedFallback, ScorerOnly
from burnish.rl.rewards.hero.inspect import INSPECT
from burnish.rl.rewards.hero.reward_model import RewardModel
from burnish.rl.rewards.hero.shaper import Hero

parts = {"hero": Hero, "blend": Blend, "gated_fallback": GatedFallback, "scorer_only": ScorerOnly, "reward_model": RewardModel}
actions = {"inspect": INSPECT}
