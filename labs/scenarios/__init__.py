"""Scenarios: steps of traffic, faults and claims, from YAML files, played on a lab and judged."""
