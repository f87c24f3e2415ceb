"""Claims, the effects that test them, and their verdicts."""
