"""Values of the build side: identifiers, ECUs, releases, errors. No I/O."""
