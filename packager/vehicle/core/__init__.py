"""The inner ring: bundles read, verified and applied, with the standard library, `zstandard` and the kernel alone.

- `head`, `manifest`, `index`, `segments`, `predictors`, `spills`: what a bundle says, read from authentic bytes;
- `applier`, `makers`, `blocks`, `codec`, `predicted`: blobs to verified blocks;
- `destination`, `inplace`, `journal`, `missing`: where blocks go, through power cuts;
- `pull`, `batch`: bundles from files and streams, one or many;
- `targets`: how signed metadata describes images and bundles.
"""
