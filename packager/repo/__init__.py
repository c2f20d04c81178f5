"""The TUF repository: keys, roles, metadata, write-once storage."""
