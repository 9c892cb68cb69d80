"""What the API server reports of objects as they change."""
