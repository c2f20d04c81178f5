"""The update of a whole vehicle.

- `home`, `state`, `heads`, `inventory`: a vehicle's configuration and what it remembers;
- `install`: the update from refresh to switch, over `selection`, `clearance`, `preflight`, `preparation`, `reader`, `repair`, `activation`
  and `completion`.
"""
