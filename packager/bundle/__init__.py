"""Encodes images into bundles of the format that the vehicle defines, and checks them with the vehicle's code."""
