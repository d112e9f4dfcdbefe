"""One run over one target: sync, check, close, with its store. When runs are due is decided in `daemon`."""
