"""What runs a model, as data: devices, the stacks of software on them, and the hosts around them."""
