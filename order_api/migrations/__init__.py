"""The migrations of the schema: each file in `versions` is a revision, named by its file; the last one is the newest."""
