"""Faults: what can be broken on purpose, and always comes back."""
