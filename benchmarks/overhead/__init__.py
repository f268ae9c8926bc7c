"""What a method's parts add to a training step."""
