"""The session engine: prefill, fork, append, decode, merge, free."""
