"""What crosses a border between the services: messages, their envelope, the topology, errors by code. Imports nothing of ours."""
