"""Two processes: a generator that draws, thinks and scores, and a learner that moves the weights. See docs/pipeline.md."""
