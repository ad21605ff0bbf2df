"""Traces for people: read back, put in a tree, drawn as a waterfall."""
