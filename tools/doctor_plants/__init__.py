"""Short runs with and without planted faults, for measuring the doctor."""
