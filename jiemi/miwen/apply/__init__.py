"""Objects: applied, recreated, pruned, planned, waited for. It knows no tick."""
