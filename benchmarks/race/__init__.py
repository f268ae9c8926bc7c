"""The race against TRL: one model, one set of prompts, one reward, one objective, trained by both, step by step in turn."""
