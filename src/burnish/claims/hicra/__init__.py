"""HICRA: strategic grams from a corpus, more credit for planning tokens, and semantic entropy as a gauge."""

from burnish.claims.hicra import extraction, gain, gauge

claims = (extraction.CLAIM, gain.CLAIM, gauge.CLAIM)
