"""Revisions: tables that instances of two versions share during an upgrade, so new columns are nullable and nothing goes."""
