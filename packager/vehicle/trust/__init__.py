"""What is believed and why: the TUF workflow and its files; no network.

- `workflow`: the checks of each role's metadata, pure; `policy` says how strict;
- `metadata_json`, `signatures`, `delegations`: strict JSON, unique keys, whose word counts for a path;
- `metadata_store`: the workflow in order, over a store and a fetcher that the caller gives;
- `clock`: what time it is for the checks of expiry;
- `summary`: what the release gate says of a supply chain.
"""
