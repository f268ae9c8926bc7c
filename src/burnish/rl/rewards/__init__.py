"""What is good: `reward(group, measured) -> list[Score]`, one for each rollout of the group (`.item`, `.rollouts`, `.texts`)."""
