"""The version of this distribution; build side and vehicle side are released together."""

VERSION = "0.1.0"
