"""Which rollouts reach the learner, and how many groups to draw again. A filter is `filter(groups) -> FilterResult`."""
