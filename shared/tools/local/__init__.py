"""The whole system on one machine: a broker, a receiver for traces, both services, and a demonstration of them."""
