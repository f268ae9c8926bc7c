"""Which problem comes next: `draw(n, state) -> list[Item]`, state = {"step", "seed", "round"}; optional `observe(batch)` and state dicts."""
