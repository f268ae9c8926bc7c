"""Which problem comes next: `draw(n, state) -> list[Item]` with state = {"step", "seed", "round"}; optional `observe(batch)`."""
