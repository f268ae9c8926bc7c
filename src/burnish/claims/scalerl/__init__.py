"""ScaleRL: the second half of a run from its first half, and the head in float32."""

from burnish.claims.scalerl import head, saturation

claims = (saturation.CLAIM, head.CLAIM)
