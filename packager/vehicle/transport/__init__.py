"""Getting metadata and bundles over HTTP.

- `fetch`, `connections`: requests, ranges, retries; `speed`: servers that are too slow;
- `plain`: files of any TUF repository into directories, no vehicle home.
"""
