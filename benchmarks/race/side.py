"""One side of the race as a process of its own: `python -m benchmarks.race.side burnish|trl CASE STEPS [FLAGS as JSON]`."""

from __future__ import annotations

import json
import os
import sys
import warnings

import torch


def main() -> None:
    """Reports go to what was standard output; whatever the libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    name, case_name, steps = sys.argv[1:4]
    from benchmarks.race import setup
    from benchmarks.race.gate import Gate

    case, gate = setup.CASES[case_name], Gate(out=out)
    if name == "burnish":
        from benchmarks.race import burnish_side

        burnish_side.run(case, int(steps), gate)
    else:
        from benchmarks.race import trl_side

        trl_side.run(case, trl_side.Flags(**json.loads(sys.argv[4])), int(steps), gate)


if __name__ == "__main__":
    main()
