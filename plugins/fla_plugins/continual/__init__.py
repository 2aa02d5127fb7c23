"""Learning one task after another: penalties against forgetting, what they need to know, and how much was forgotten."""
