"""HICRA: strategic grams, from a corpus of solutions to marked tokens and semantic entropy (arXiv 2509.03646).

    grams = extract(solutions, encoder="tfidf_svd", n=(3, 5), keep=0.2)      # once, before training
    grams.save("grams.json")
    matches = grams.matcher.find("First, let us try another way.")           # character spans

The training that reads them: `burnish.rl.rewards.hicra` marks, `burnish.rl.credit.hicra` gives marked tokens more credit.
"""

from burnish.data.hicra.actions import actions
from burnish.data.hicra.entropy import semantic_entropy
from burnish.data.hicra.extract import extract
from burnish.data.hicra.grams import Cluster, Grams

__all__ = ["Cluster", "Grams", "actions", "extract", "semantic_entropy"]
