"""Ready answers to the five questions, and the one place where names become objects."""
