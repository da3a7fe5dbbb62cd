"""A Linux end node: one or many network cards, static routes, no control plane."""
