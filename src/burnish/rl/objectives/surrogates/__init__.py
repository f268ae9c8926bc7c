"""Surrogates: pure functions of ratio, log-prob and advantage, to be maximised."""
