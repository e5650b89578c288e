"""Every number the lab states, each a plain function."""
