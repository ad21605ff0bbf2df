"""What makes a process a service: settings, logs, telemetry, HTTP, and an orderly start and end."""
