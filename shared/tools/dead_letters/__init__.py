"""The dead letters, for people: looked at where they lie, named by ids that can be typed, sent in again, or dropped."""
