"""What stored searches and jobs have to show: trials to take, fronts, files."""
