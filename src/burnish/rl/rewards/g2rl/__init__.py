"""G2RL: completions that would move the policy in a direction of their own weigh more (arXiv 2512.15687); and what updates look like."""

from burnish.rl.rewards.g2rl.baselines import NgramNovelty, RandomNubar
from burnish.rl.rewards.g2rl.inspect import GEOMETRY
from burnish.rl.rewards.g2rl.shaper import G2RL, UpdateGeometry

parts = {"g2rl": G2RL, "update_geometry": UpdateGeometry, "random_nubar": RandomNubar, "ngram_novelty": NgramNovelty}
actions = {"geometry": GEOMETRY}
