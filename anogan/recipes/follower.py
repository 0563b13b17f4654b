"""A further process of a fit on several devices: the first one runs `python -m anogan.recipes.follower`."""

from anogan.gan.processes import follow
from anogan.recipes.training import follow_fit

if __name__ == "__main__":
    follow(follow_fit)
