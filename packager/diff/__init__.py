"""Diff engines: old and new image in, segments and literals out."""
