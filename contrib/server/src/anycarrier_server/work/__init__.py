"""What runs beside the requests: deliveries, schedules, post-call work, agents, and watching over other processes."""
