"""Sample input: real images obtained by pip, generated firmware, and the release files that use them."""
