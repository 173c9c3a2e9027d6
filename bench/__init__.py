"""Every claim of speed, measured beside its peers and beside the machine's limit in one run."""
