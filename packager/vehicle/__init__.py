"""The verification core that every car carries.

Two rings. The inner one (this package's modules except those named next) verifies and applies bundles; it needs only the standard
library, `zstandard` and the compiled kernel. The outer one (`trust`, `fetch`, `home`, `install`, `cli`) adds TUF metadata and HTTP.
The byte format is specified in ``FORMAT.md`` beside this file.
"""
