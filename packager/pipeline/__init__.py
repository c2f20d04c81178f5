"""Joins the stages: plan, build, publish, verify, report."""
