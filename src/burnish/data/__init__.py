"""Data formats, and text turned into training data."""
