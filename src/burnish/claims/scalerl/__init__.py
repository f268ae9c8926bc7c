"""ScaleRL: the second half of a run from its first half, the head in float32, and the recipe with one part reverted at a time."""

from burnish.claims.scalerl import head, leave_one_out, saturation

claims = (saturation.CLAIM, head.CLAIM, leave_one_out.CLAIM)
