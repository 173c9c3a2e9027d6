"""Reading the data once: sums over the observations, and the turning point of each data set."""
