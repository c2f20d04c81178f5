"""The program ``packager-vehicle``: the only package of the vehicle that prints, reads the clock and the environment, or exits.

- `program`: commands and exit codes; `plain`: the same commands for any TUF repository;
- `output`, `reports`: results for people and as JSON.
"""
