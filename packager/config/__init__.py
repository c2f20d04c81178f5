"""Reads release files into the model, reporting all problems at once."""
