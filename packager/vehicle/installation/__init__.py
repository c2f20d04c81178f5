"""The update of a whole vehicle.

- `home`, `state`, `inventory`: a vehicle's configuration and what it remembers;
- `install`: the update from refresh to switch, over `selection`, `clearance`, `preflight`, `preparation`, `repair`, `activation`
  and `completion`.
"""
