"""The side-by-side benchmark: `loadtest/bench`. Standard library only."""
