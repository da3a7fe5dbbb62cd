"""What is sent and what arrived: flows, plans, engines and their reports. Imports `topologies` only."""
