"""Delta updates for cars: build, sign, verify and install per-ECU bundles."""
