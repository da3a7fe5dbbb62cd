"""What plays a TrafficPlan on running hosts."""
