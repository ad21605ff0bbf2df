"""A database behind a service: SQLite or PostgreSQL, with writes grouped into shared transactions."""
