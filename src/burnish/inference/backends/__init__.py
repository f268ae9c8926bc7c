"""Where samples come from: the built-in engine, vLLM, or your own. Modules here are found by name (`burnish.runs.parts`)."""
