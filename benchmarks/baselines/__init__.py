"""Two other ways to do the same job, as strong as they come ready-made; neither stores anything."""
