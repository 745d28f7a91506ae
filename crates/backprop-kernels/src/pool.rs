//! The thread pool: a persistent team, a cheap barrier, asleep when idle.
