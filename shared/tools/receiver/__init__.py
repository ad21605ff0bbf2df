"""A small OTLP receiver for where there is no OpenObserve: its ingest paths, bounded memory, JSON and a trace page."""
