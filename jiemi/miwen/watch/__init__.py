"""What the API server tells of objects as they change."""
