"""Messages, chat models and tools."""
