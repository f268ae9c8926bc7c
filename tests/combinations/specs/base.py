"""How parts that need arguments are asked for in the matrix. A method with such parts brings a file of its own beside this one."""

from pathlib import Path

USER = Path(__file__).parents[1] / "user_parts.py"

SPECS = {
    "rollouts": {
        "agent": {"agent": f"{USER}:agent"},
        "interrupted": {"low": 1, "high": 2, "phrase": "ab", "end": "b"},
    },
    "rewards": {
        "code_tests": {"sandbox": "process", "tests": "tests", "seconds": 2.0},
        "confidence": {"measure": "self_certainty"},
        "cosine": {"max_length": 8, "wrong": [0.2, 0.5], "exceeded": 0.1},
        "format": {"pattern": "[ab]+"},
        "judge": {"chat": f"{USER}:Judge"},
        "length_penalty": {"max_length": 6, "cache": 2},
        "overlong": {"max_length": 6, "cache": 2},
        "rubric": {"chat": f"{USER}:Judge", "criteria": ["is short"]},
        "task": {"task": "sort", "length": 3},
        "tokens": {"function": f"{USER}:by_token"},
        "trl": {"function": f"{USER}:lengths"},
        "turns": {"function": f"{USER}:by_turn"},
        "verifier": {"check": f"{USER}:more_letters"},
        "weighted": {"rewards": [f"{USER}:more_letters"]},
    },
    "filters": {
        "chain": {"filters": ["zero_variance"]},
        "refill": {"filter": "zero_variance", "prompts": 2, "rounds": 2},
    },
    "credit": {"pass_at_k": {"k": 2}},
    "with": {
        "credit/greedy": {"thinker": "with_greedy"},
        "credit/marked": {"shapers": [f"{USER}:Marker"]},
        "filters/replay": {"objective": "scalerl"},
    },
}
