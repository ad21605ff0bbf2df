"""What the system costs, beside what others cost, on the same machine in the same minutes."""
