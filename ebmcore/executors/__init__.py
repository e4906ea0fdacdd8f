"""The executors that come with the host, found through its own entry points."""
