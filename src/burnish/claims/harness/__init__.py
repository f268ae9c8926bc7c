"""The harness of the claims: arms as processes of their own, resumable, each result a file; verdicts by rule; the generated tables."""
