"""What several programs of tools/ share, and what only make runs: rwlock, installed."""
