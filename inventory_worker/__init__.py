"""Reserves stock for the checks that arrive over RabbitMQ, and replies with the decision."""
