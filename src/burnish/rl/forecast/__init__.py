"""What a larger budget will give: a saturating curve of held-out pass rate against compute, with intervals and refusals (ScaleRL)."""
