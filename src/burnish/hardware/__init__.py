"""What a computation costs: FLOPs, bytes and memory from a model."""
