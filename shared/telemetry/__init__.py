"""Traces, metrics and logs of any service over a queue: it knows none of ours, so that the folder works under any name."""
