"""ACE-RL: a text is good where it does what its checklist asks and is about as long as wanted (arXiv 2509.04903)."""

from burnish.rl.rewards.ace_rl.length import LengthBand
from burnish.rl.rewards.ace_rl.reward import AceRL
from burnish.rl.rewards.ace_rl.score import REPORT, SCORE

parts = {"ace_rl": AceRL, "length_band": LengthBand}
actions = {"score": SCORE, "report": REPORT}
