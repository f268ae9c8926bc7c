"""The quickstart: from a base model to a measurably better one, against two controls, in a few minutes on a laptop's CPU."""

from burnish.recipes.quickstart.run import quickstart
from burnish.recipes.quickstart.settings import QuickstartConfig

__all__ = ["QuickstartConfig", "quickstart"]
