"""Traces, logs and metrics: set up once at the edge, named once in `semconv`."""
