"""What several programs of tools/ share; make runs two of these: rwlock and installed."""
