"""Its settings are arguments of `__init__`, not the fields of a frozen dataclass."""


class Walk:
    """A random walk."""

    def __init__(self, scale=0.1):
        self.scale = scale

    def init(self, energy, position, noise):
        return (position,)

    def step(self, energy, state, noise):
        return (noise.perturb_(state[0], self.scale),), None
