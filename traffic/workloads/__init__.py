"""Workloads that others wrote down: readers of their formats. `recognise.read_workload` takes any of them."""
