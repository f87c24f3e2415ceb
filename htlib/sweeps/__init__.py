"""Many runs: described by grids and presets, computed by workers, kept in a store."""
