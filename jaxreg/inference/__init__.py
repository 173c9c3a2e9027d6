"""Standard errors, tests and intervals of the params of every data set."""
