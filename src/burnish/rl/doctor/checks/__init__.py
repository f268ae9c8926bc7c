"""What the doctor looks for: modules with `diagnose(run) -> list[Finding]`, found by listing this package."""
