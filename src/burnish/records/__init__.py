"""The few records everything in burnish is made of: plain data, no behaviour beyond checking and (de)serialising."""

from burnish.records.event import Event
from burnish.records.item import Item, Limits
from burnish.records.rollout import Group, Rollout, StopReason
from burnish.records.sampling import Sampling
from burnish.records.score import Score
from burnish.records.turn import Turn

__all__ = ["Event", "Group", "Item", "Limits", "Rollout", "Sampling", "Score", "StopReason", "Turn"]
