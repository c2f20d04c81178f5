"""in-toto links, layouts, attestations and their verification."""
